-- Policies: drafts, who approves them, and what reviewers say of a version's findings. Ids are 16
-- bytes, times are microseconds since 1970 in UTC.

-- Not in force and never was: the one kind of row that can be edited.
ALTER TABLE policies ADD COLUMN is_draft INTEGER NOT NULL DEFAULT FALSE CHECK (NOT (is_draft AND is_active));
-- Made of reviewers' feedback; further exceptions are added to it.
ALTER TABLE policies ADD COLUMN is_proposal INTEGER NOT NULL DEFAULT FALSE;
-- Counts the edits of a draft.
ALTER TABLE policies ADD COLUMN revision INTEGER NOT NULL DEFAULT 1;
-- Who edited the draft last, if anybody did.
ALTER TABLE policies ADD COLUMN updated_by BLOB;

CREATE INDEX policies_drafts ON policies (org_id, id) WHERE is_draft AND deleted_at IS NULL;

-- What reviewers say: one row for each rule that acted in a request.
CREATE TABLE audit_feedback (
    org_id BLOB NOT NULL REFERENCES organizations (id),
    -- Without a foreign key, like the trail itself: it has a retention of its own.
    audit_log_id BLOB NOT NULL,
    rule_id TEXT NOT NULL,
    -- The version that judged; NULL for a preset.
    policy_id BLOB,
    verdict TEXT NOT NULL CHECK (verdict IN ('true_positive', 'false_positive')),
    comment TEXT,
    created_by BLOB,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, audit_log_id, rule_id)
) STRICT;

CREATE INDEX audit_feedback_of_policy ON audit_feedback (org_id, policy_id, rule_id);
