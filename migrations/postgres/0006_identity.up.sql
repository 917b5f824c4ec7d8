-- Second factors, sign-on through an organization's own provider, and its directory.

ALTER TABLE users
    -- Wrong codes since the last right one, and until when no further code is looked at.
    ADD COLUMN mfa_failures BIGINT NOT NULL DEFAULT 0 CHECK (mfa_failures >= 0),
    ADD COLUMN mfa_locked_until TIMESTAMPTZ,
    -- The person's id in the directory that provisions them.
    ADD COLUMN external_id TEXT;

-- How the person proved who they are: a provider has its own second factor.
ALTER TABLE sessions ADD COLUMN method TEXT NOT NULL DEFAULT 'password' CHECK (method IN ('password', 'sso'));

CREATE TABLE sso_connections (
    org_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (id),
    issuer TEXT NOT NULL,
    client_id TEXT NOT NULL,
    -- Encrypted by the program.
    client_secret BYTEA NOT NULL,
    -- A JSON array of domains in lower case.
    email_domains JSONB NOT NULL,
    default_role TEXT NOT NULL CHECK (default_role IN ('admin', 'member', 'viewer', 'auditor')),
    max_role TEXT NOT NULL CHECK (max_role IN ('admin', 'member', 'viewer', 'auditor')),
    groups_claim TEXT,
    -- A JSON object: group to role.
    role_mapping JSONB NOT NULL,
    sso_required BOOLEAN NOT NULL DEFAULT FALSE,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL
);

CREATE TABLE scim_tokens (
    org_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (id),
    -- SHA-256 of the token.
    token_hash BYTEA NOT NULL UNIQUE,
    created_by UUID NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    FOREIGN KEY (org_id, created_by) REFERENCES users (org_id, id)
);

ALTER TABLE sso_connections ENABLE ROW LEVEL SECURITY;
ALTER TABLE sso_connections FORCE ROW LEVEL SECURITY;
CREATE POLICY sso_connections_tenant ON sso_connections
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE scim_tokens ENABLE ROW LEVEL SECURITY;
ALTER TABLE scim_tokens FORCE ROW LEVEL SECURITY;
CREATE POLICY scim_tokens_tenant ON scim_tokens
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

CREATE POLICY scim_tokens_unscoped_select ON scim_tokens FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');

GRANT SELECT, INSERT, UPDATE, DELETE ON sso_connections, scim_tokens TO sentinel_runtime;
