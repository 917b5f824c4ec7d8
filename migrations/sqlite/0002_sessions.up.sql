-- How people get in: login sessions, recovery codes of the second factor, invitations.
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, booleans are 0 or 1, JSON is text.

CREATE TABLE sessions (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    revoked_at INTEGER,
    user_agent TEXT,
    ip TEXT,
    last_used_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
) STRICT;

CREATE TABLE refresh_tokens (
    -- SHA-256 of the token.
    token_hash BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    session_id BLOB NOT NULL,
    issued_at INTEGER NOT NULL,
    -- Set when the token was exchanged for the next one: whoever presents it again has stolen it, or was robbed.
    exchanged_at INTEGER,
    FOREIGN KEY (org_id, session_id) REFERENCES sessions (org_id, id)
) STRICT;

CREATE TABLE recovery_codes (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    code_hash TEXT NOT NULL,
    used_at INTEGER,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
) STRICT;

CREATE TABLE invitations (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    email_key TEXT NOT NULL,
    full_name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'auditor')),
    permissions TEXT NOT NULL,
    token_hash BLOB NOT NULL UNIQUE,
    invited_by BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    accepted_at INTEGER,
    revoked_at INTEGER,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (org_id, invited_by) REFERENCES users (org_id, id)
) STRICT;

CREATE INDEX sessions_of_user ON sessions (org_id, user_id);
CREATE INDEX refresh_tokens_of_session ON refresh_tokens (org_id, session_id);
CREATE INDEX recovery_codes_of_user ON recovery_codes (org_id, user_id);
CREATE UNIQUE INDEX invitations_open ON invitations (org_id, email_key) WHERE accepted_at IS NULL AND revoked_at IS NULL;
