-- What is remembered: one row a request, one row an act on the admin face. Append-only.
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, booleans are 0 or 1, JSON is text.

CREATE TABLE audit_logs (
    id BLOB NOT NULL PRIMARY KEY,
    -- NULL when no valid credential was presented: such rows belong to no organization. No foreign keys: rows outlive
    -- what they speak of, and are written in bulk.
    org_id BLOB,
    workspace_id BLOB,
    api_key_id BLOB,
    occurred_at INTEGER NOT NULL,
    node TEXT NOT NULL,
    source TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    dialect TEXT,
    upstream TEXT,
    model TEXT,
    user_id TEXT,
    client_ip TEXT,
    policy_id BLOB,
    policy_name TEXT,
    policy_version INTEGER,
    action TEXT NOT NULL,
    direction TEXT NOT NULL,
    risk_score INTEGER NOT NULL,
    pii_detected INTEGER NOT NULL,
    injection_detected INTEGER NOT NULL,
    escalated INTEGER NOT NULL,
    categories TEXT NOT NULL,
    findings TEXT NOT NULL,
    coverage TEXT NOT NULL,
    error_code TEXT,
    -- The completion: NULL while the request runs; the only columns that are ever updated, and only once.
    completed_at INTEGER,
    outcome TEXT,
    status INTEGER,
    upstream_status INTEGER,
    duration_us INTEGER,
    overhead_us INTEGER,
    ttfb_us INTEGER,
    response_bytes INTEGER,
    input_tokens INTEGER,
    output_tokens INTEGER,
    completion_error_code TEXT,
    -- The chain of (organization, node): filled by a later release.
    seq INTEGER,
    prev_hash BLOB,
    hash BLOB
) STRICT;

CREATE TABLE admin_events (
    id BLOB NOT NULL PRIMARY KEY,
    -- NULL for acts that belong to no organization, such as a log-in under an unknown address.
    org_id BLOB,
    occurred_at INTEGER NOT NULL,
    -- `user`, `api_key`, `operator`, `system`
    actor_type TEXT NOT NULL,
    actor_id BLOB,
    actor_email TEXT,
    action TEXT NOT NULL,
    target_type TEXT,
    target_id BLOB,
    outcome TEXT NOT NULL,
    ip TEXT,
    user_agent TEXT,
    request_id TEXT,
    -- The fields that changed, secrets left out.
    before TEXT,
    after TEXT,
    seq INTEGER,
    prev_hash BLOB,
    hash BLOB
) STRICT;

CREATE INDEX audit_logs_page ON audit_logs (org_id, occurred_at, id);
CREATE INDEX admin_events_page ON admin_events (org_id, occurred_at, id);
