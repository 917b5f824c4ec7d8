-- Passwords forgotten, accounts locked after too many wrong ones, and the pruning of what has expired.

CREATE TABLE password_resets (
    -- SHA-256 of the token in the link.
    token_hash BYTEA NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    user_id UUID NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
);

-- Belongs to no organization: addresses without an account are locked like any other.
CREATE TABLE login_lockouts (
    -- SHA-256 of the address in lower case.
    account_hash BYTEA NOT NULL PRIMARY KEY,
    locked_until TIMESTAMPTZ NOT NULL
);

CREATE INDEX password_resets_of_user ON password_resets (org_id, user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX refresh_tokens_exchanged ON refresh_tokens (exchanged_at) WHERE exchanged_at IS NOT NULL;

ALTER TABLE password_resets ENABLE ROW LEVEL SECURITY;
ALTER TABLE password_resets FORCE ROW LEVEL SECURITY;
CREATE POLICY password_resets_tenant ON password_resets
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

CREATE POLICY password_resets_unscoped_select ON password_resets FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY password_resets_unscoped_delete ON password_resets FOR DELETE
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY sessions_unscoped_delete ON sessions FOR DELETE
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY refresh_tokens_unscoped_delete ON refresh_tokens FOR DELETE
    USING (current_setting('app.sentinel_unscoped', true) = 'on');

GRANT SELECT, INSERT, DELETE ON password_resets TO sentinel_runtime;
GRANT SELECT, INSERT, UPDATE, DELETE ON login_lockouts TO sentinel_runtime;
GRANT DELETE ON sessions, refresh_tokens TO sentinel_runtime;
