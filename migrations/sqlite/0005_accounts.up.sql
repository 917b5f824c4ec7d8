-- Passwords forgotten, accounts locked after too many wrong ones, and the pruning of what has expired.
-- Ids are 16 bytes, times are microseconds since 1970 in UTC.

CREATE TABLE password_resets (
    -- SHA-256 of the token in the link.
    token_hash BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    expires_at INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
) STRICT;

-- Belongs to no organization: addresses without an account are locked like any other.
CREATE TABLE login_lockouts (
    -- SHA-256 of the address in lower case.
    account_hash BLOB NOT NULL PRIMARY KEY,
    locked_until INTEGER NOT NULL
) STRICT;

CREATE INDEX password_resets_of_user ON password_resets (org_id, user_id);
CREATE INDEX sessions_expiry ON sessions (expires_at);
CREATE INDEX refresh_tokens_exchanged ON refresh_tokens (exchanged_at) WHERE exchanged_at IS NOT NULL;
