-- What is remembered: one row a request, one row an act on the admin face. Append-only.

CREATE TABLE audit_logs (
    id UUID NOT NULL PRIMARY KEY,
    -- NULL when no valid credential was presented: such rows belong to no organization. No foreign keys: rows outlive
    -- what they speak of, and are written in bulk.
    org_id UUID,
    workspace_id UUID,
    api_key_id UUID,
    occurred_at TIMESTAMPTZ NOT NULL,
    node TEXT NOT NULL,
    source TEXT NOT NULL,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    dialect TEXT,
    upstream TEXT,
    model TEXT,
    user_id TEXT,
    client_ip TEXT,
    policy_id UUID,
    policy_name TEXT,
    policy_version BIGINT,
    action TEXT NOT NULL,
    direction TEXT NOT NULL,
    risk_score BIGINT NOT NULL,
    pii_detected BOOLEAN NOT NULL,
    injection_detected BOOLEAN NOT NULL,
    escalated BOOLEAN NOT NULL,
    categories JSONB NOT NULL,
    findings JSONB NOT NULL,
    coverage JSONB NOT NULL,
    error_code TEXT,
    -- The completion: NULL while the request runs; the only columns that are ever updated, and only once.
    completed_at TIMESTAMPTZ,
    outcome TEXT,
    status BIGINT,
    upstream_status BIGINT,
    duration_us BIGINT,
    overhead_us BIGINT,
    ttfb_us BIGINT,
    response_bytes BIGINT,
    input_tokens BIGINT,
    output_tokens BIGINT,
    completion_error_code TEXT,
    -- The chain of (organization, node): filled by a later release.
    seq BIGINT,
    prev_hash BYTEA,
    hash BYTEA
);

CREATE TABLE admin_events (
    id UUID NOT NULL PRIMARY KEY,
    -- NULL for acts that belong to no organization, such as a log-in under an unknown address.
    org_id UUID,
    occurred_at TIMESTAMPTZ NOT NULL,
    -- `user`, `api_key`, `operator`, `system`
    actor_type TEXT NOT NULL,
    actor_id UUID,
    actor_email TEXT,
    action TEXT NOT NULL,
    target_type TEXT,
    target_id UUID,
    outcome TEXT NOT NULL,
    ip TEXT,
    user_agent TEXT,
    request_id TEXT,
    -- The fields that changed, secrets left out.
    before JSONB,
    after JSONB,
    seq BIGINT,
    prev_hash BYTEA,
    hash BYTEA
);

CREATE INDEX audit_logs_page ON audit_logs (org_id, occurred_at, id);
CREATE INDEX admin_events_page ON admin_events (org_id, occurred_at, id);

ALTER TABLE audit_logs ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_logs FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_logs_tenant ON audit_logs
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE admin_events ENABLE ROW LEVEL SECURITY;
ALTER TABLE admin_events FORCE ROW LEVEL SECURITY;
CREATE POLICY admin_events_tenant ON admin_events
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

CREATE POLICY audit_logs_unscoped_select ON audit_logs FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY audit_logs_unscoped_insert ON audit_logs FOR INSERT
    WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY audit_logs_unscoped_update ON audit_logs FOR UPDATE
    USING (current_setting('app.sentinel_unscoped', true) = 'on') WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY admin_events_unscoped_insert ON admin_events FOR INSERT
    WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');

-- Append-only: no DELETE, and of a request's row only the completion can be written later.
GRANT SELECT, INSERT ON audit_logs, admin_events TO sentinel_runtime;
GRANT UPDATE (
    completed_at, outcome, status, upstream_status, duration_us, overhead_us, ttfb_us, response_bytes, input_tokens,
    output_tokens, completion_error_code
) ON audit_logs TO sentinel_runtime;
