-- Policies: drafts, who approves them, and what reviewers say of a version's findings.

-- Not in force and never was: the one kind of row that can be edited.
ALTER TABLE policies ADD COLUMN is_draft BOOLEAN NOT NULL DEFAULT FALSE CHECK (NOT (is_draft AND is_active));
-- Made of reviewers' feedback; further exceptions are added to it.
ALTER TABLE policies ADD COLUMN is_proposal BOOLEAN NOT NULL DEFAULT FALSE;
-- Counts the edits of a draft.
ALTER TABLE policies ADD COLUMN revision BIGINT NOT NULL DEFAULT 1;
-- Who edited the draft last, if anybody did.
ALTER TABLE policies ADD COLUMN updated_by UUID;

CREATE INDEX policies_drafts ON policies (org_id, id) WHERE is_draft AND deleted_at IS NULL;

-- What reviewers say: one row for each rule that acted in a request.
CREATE TABLE audit_feedback (
    org_id UUID NOT NULL REFERENCES organizations (id),
    -- Without a foreign key, like the trail itself: it has a retention of its own.
    audit_log_id UUID NOT NULL,
    rule_id TEXT NOT NULL,
    -- The version that judged; NULL for a preset.
    policy_id UUID,
    verdict TEXT NOT NULL CHECK (verdict IN ('true_positive', 'false_positive')),
    comment TEXT,
    created_by UUID,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, audit_log_id, rule_id)
);

CREATE INDEX audit_feedback_of_policy ON audit_feedback (org_id, policy_id, rule_id);

ALTER TABLE audit_feedback ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_feedback FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_feedback_tenant ON audit_feedback
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

GRANT SELECT, INSERT, UPDATE ON audit_feedback TO sentinel_runtime;
