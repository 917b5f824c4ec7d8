-- The audit trail as it is searched, reviewed, aged out and erased.
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, booleans are 0 or 1.

-- What is found in a row and done about it, as words that an index leads by: `category:`, `rule:`, `action:` and `risk:` and a
-- value. Rows of requests that were simply allowed have none.
CREATE TABLE audit_terms (
    org_id BLOB NOT NULL,
    term TEXT NOT NULL,
    occurred_at INTEGER NOT NULL,
    id BLOB NOT NULL,
    PRIMARY KEY (org_id, term, occurred_at, id)
) STRICT, WITHOUT ROWID;

INSERT INTO audit_terms (org_id, term, occurred_at, id)
SELECT org_id, 'category:' || c.value, occurred_at, a.id
    FROM audit_logs a, json_each(a.categories) c WHERE org_id IS NOT NULL
UNION SELECT org_id, 'category:' || c.value, occurred_at, a.id
    FROM audit_logs a, json_each(a.answer, '$.categories') c WHERE org_id IS NOT NULL
UNION SELECT org_id, 'rule:' || (f.value ->> 'rule_id'), occurred_at, a.id
    FROM audit_logs a, json_each(a.findings) f WHERE org_id IS NOT NULL
UNION SELECT org_id, 'rule:' || (f.value ->> 'rule_id'), occurred_at, a.id
    FROM audit_logs a, json_each(a.answer, '$.findings') f WHERE org_id IS NOT NULL
UNION SELECT org_id, 'action:' || action, occurred_at, id
    FROM audit_logs WHERE org_id IS NOT NULL AND action <> 'allow'
UNION SELECT org_id, 'action:block', occurred_at, id FROM audit_logs WHERE org_id IS NOT NULL AND outcome = 'blocked'
UNION SELECT org_id, 'risk:50', occurred_at, id FROM audit_logs WHERE org_id IS NOT NULL AND risk_score >= 50
UNION SELECT org_id, 'risk:80', occurred_at, id FROM audit_logs WHERE org_id IS NOT NULL AND risk_score >= 80;

CREATE INDEX audit_logs_workspace ON audit_logs (org_id, workspace_id, occurred_at, id);
CREATE INDEX audit_logs_api_key ON audit_logs (org_id, api_key_id, occurred_at, id);
CREATE INDEX audit_logs_user ON audit_logs (org_id, user_id, occurred_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_logs_model ON audit_logs (org_id, model, occurred_at, id) WHERE model IS NOT NULL;
CREATE INDEX audit_logs_upstream ON audit_logs (org_id, upstream, occurred_at, id) WHERE upstream IS NOT NULL;
CREATE INDEX audit_logs_policy ON audit_logs (org_id, policy_id, policy_version, occurred_at, id)
    WHERE policy_id IS NOT NULL;

-- What an organization wants of its trail.
CREATE TABLE audit_settings (
    org_id BLOB NOT NULL PRIMARY KEY REFERENCES organizations (id),
    -- NULL: as long as its tier keeps rows.
    retention_days INTEGER CHECK (retention_days > 0),
    -- While it holds, nothing is removed or erased.
    legal_hold INTEGER NOT NULL DEFAULT 0,
    hold_reason TEXT,
    -- How long a review may take.
    review_hours INTEGER NOT NULL DEFAULT 72 CHECK (review_hours > 0)
) STRICT;

-- Requests that somebody is to look at. No foreign keys to people and rows, which may go.
CREATE TABLE audit_reviews (
    org_id BLOB NOT NULL,
    audit_id BLOB NOT NULL,
    escalated_at INTEGER NOT NULL,
    -- NULL: the policy.
    escalated_by BLOB,
    reason TEXT,
    assignee_id BLOB,
    due_at INTEGER NOT NULL,
    outcome TEXT,
    resolved_at INTEGER,
    resolved_by BLOB,
    PRIMARY KEY (org_id, audit_id)
) STRICT;

CREATE TABLE audit_review_comments (
    org_id BLOB NOT NULL,
    id BLOB NOT NULL,
    audit_id BLOB NOT NULL,
    author_id BLOB NOT NULL,
    body TEXT NOT NULL,
    created_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, audit_id) REFERENCES audit_reviews (org_id, audit_id)
) STRICT;

CREATE INDEX audit_reviews_escalated ON audit_reviews (org_id, escalated_at, audit_id);
CREATE INDEX audit_reviews_due ON audit_reviews (org_id, due_at, audit_id);
CREATE INDEX audit_review_comments_of ON audit_review_comments (org_id, audit_id, id);

-- Rows that were removed: the part of a stream that is not there any more, and how it ended.
CREATE TABLE audit_removals (
    org_id BLOB NOT NULL,
    node TEXT NOT NULL,
    -- The first and the last place.
    from_seq INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    -- Of the last row.
    hash BLOB NOT NULL,
    -- Rows that occurred before this were to go.
    before INTEGER NOT NULL,
    -- By these rows' organization, or its tier.
    retention_days INTEGER NOT NULL,
    removed_at INTEGER NOT NULL,
    -- Ed25519.
    public_key BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (org_id, node, from_seq)
) STRICT;

-- SHA-256 of the row's id and the value that was erased.
ALTER TABLE audit_logs ADD COLUMN user_id_hash BLOB;
ALTER TABLE audit_logs ADD COLUMN client_ip_hash BLOB;
