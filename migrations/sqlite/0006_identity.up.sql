-- Second factors, sign-on through an organization's own provider, and its directory.

-- Wrong codes since the last right one, and until when no further code is looked at.
ALTER TABLE users ADD COLUMN mfa_failures INTEGER NOT NULL DEFAULT 0 CHECK (mfa_failures >= 0);
ALTER TABLE users ADD COLUMN mfa_locked_until INTEGER;
-- The person's id in the directory that provisions them.
ALTER TABLE users ADD COLUMN external_id TEXT;

-- How the person proved who they are: a provider has its own second factor.
ALTER TABLE sessions ADD COLUMN method TEXT NOT NULL DEFAULT 'password' CHECK (method IN ('password', 'sso'));

CREATE TABLE sso_connections (
    org_id BLOB NOT NULL PRIMARY KEY REFERENCES organizations (id),
    issuer TEXT NOT NULL,
    client_id TEXT NOT NULL,
    -- Encrypted by the program.
    client_secret BLOB NOT NULL,
    -- A JSON array of domains in lower case.
    email_domains TEXT NOT NULL,
    default_role TEXT NOT NULL CHECK (default_role IN ('admin', 'member', 'viewer', 'auditor')),
    max_role TEXT NOT NULL CHECK (max_role IN ('admin', 'member', 'viewer', 'auditor')),
    groups_claim TEXT,
    -- A JSON object: group to role.
    role_mapping TEXT NOT NULL,
    sso_required INTEGER NOT NULL DEFAULT FALSE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE scim_tokens (
    org_id BLOB NOT NULL PRIMARY KEY REFERENCES organizations (id),
    -- SHA-256 of the token.
    token_hash BLOB NOT NULL UNIQUE,
    created_by BLOB NOT NULL,
    created_at INTEGER NOT NULL,
    FOREIGN KEY (org_id, created_by) REFERENCES users (org_id, id)
) STRICT;
