-- Organizations and what belongs to them: people, workspaces, policies and API keys.

CREATE TABLE organizations (
    id UUID NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    subscription_tier TEXT NOT NULL DEFAULT 'free'
        CHECK (subscription_tier IN ('free', 'starter', 'pro', 'enterprise')),
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    billing_email TEXT,
    stripe_customer_id TEXT,
    -- Usage limits: NULL is no limit.
    max_users BIGINT CHECK (max_users >= 0),
    max_workspaces BIGINT CHECK (max_workspaces >= 0),
    max_api_keys BIGINT CHECK (max_api_keys >= 0),
    monthly_request_limit BIGINT CHECK (monthly_request_limit >= 0),
    settings JSONB NOT NULL,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ
);

CREATE TABLE users (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    -- The address in lower case, made by the program: the engines do not agree on what lower case is.
    email_key TEXT NOT NULL,
    full_name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'auditor')),
    -- Grants beyond the role: a JSON array of strings.
    permissions JSONB NOT NULL,
    -- NULL for people who sign in through SSO alone.
    password_hash TEXT,
    must_change_password BOOLEAN NOT NULL DEFAULT FALSE,
    password_changed_at TIMESTAMPTZ,
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    email_verified_at TIMESTAMPTZ,
    mfa_enabled BOOLEAN NOT NULL DEFAULT FALSE,
    -- Encrypted by the program.
    mfa_secret BYTEA,
    mfa_enrolled_at TIMESTAMPTZ,
    -- The last time step whose code was taken, so that no code is taken twice.
    last_totp_step BIGINT,
    sso_provider TEXT,
    sso_subject TEXT,
    invited_by UUID,
    last_login_at TIMESTAMPTZ,
    deactivated_at TIMESTAMPTZ,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ,
    UNIQUE (org_id, id)
);

CREATE TABLE policies (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL REFERENCES organizations (id),
    -- The id of the first version, which all versions carry.
    root_id UUID NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    version BIGINT NOT NULL CHECK (version >= 1),
    parent_policy_id UUID,
    document JSONB NOT NULL,
    is_default BOOLEAN NOT NULL DEFAULT FALSE,
    -- True for the version in force.
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    canary_percentage BIGINT NOT NULL DEFAULT 0 CHECK (canary_percentage BETWEEN 0 AND 100),
    comment TEXT,
    -- Impact, counted by the gateway and by the feedback of reviewers.
    requests_evaluated BIGINT NOT NULL DEFAULT 0,
    requests_blocked BIGINT NOT NULL DEFAULT 0,
    false_positives BIGINT NOT NULL DEFAULT 0,
    false_positive_rate DOUBLE PRECISION,
    test_run_id UUID,
    created_by UUID,
    approved_by UUID,
    approved_at TIMESTAMPTZ,
    promoted_at TIMESTAMPTZ,
    rolled_back_at TIMESTAMPTZ,
    created_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ,
    UNIQUE (org_id, id),
    UNIQUE (org_id, root_id, version),
    FOREIGN KEY (org_id, root_id) REFERENCES policies (org_id, id),
    FOREIGN KEY (org_id, parent_policy_id) REFERENCES policies (org_id, id)
);

CREATE TABLE workspaces (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    description TEXT,
    environment TEXT NOT NULL,
    -- The root of the policy in force; NULL: the organization's default.
    policy_id UUID,
    config JSONB NOT NULL,
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    version BIGINT NOT NULL DEFAULT 1,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    deleted_at TIMESTAMPTZ,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, policy_id) REFERENCES policies (org_id, id)
);

CREATE TABLE api_keys (
    id UUID NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL REFERENCES organizations (id),
    workspace_id UUID NOT NULL,
    name TEXT NOT NULL,
    -- SHA-256 of the key; the key itself is stored nowhere.
    key_hash BYTEA NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    -- `process`, `metrics`, `reports`: a JSON array of strings.
    scopes JSONB NOT NULL,
    rate_limit_per_minute BIGINT CHECK (rate_limit_per_minute >= 0),
    is_active BOOLEAN NOT NULL DEFAULT TRUE,
    expires_at TIMESTAMPTZ,
    last_used_at TIMESTAMPTZ,
    last_used_ip TEXT,
    revoked_at TIMESTAMPTZ,
    rotated_from UUID,
    reviewed_at TIMESTAMPTZ,
    reviewed_by UUID,
    created_by UUID,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    FOREIGN KEY (org_id, workspace_id) REFERENCES workspaces (org_id, id)
);

CREATE UNIQUE INDEX organizations_slug ON organizations (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_email ON users (email_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_sso ON users (sso_provider, sso_subject) WHERE deleted_at IS NULL AND sso_subject IS NOT NULL;
CREATE UNIQUE INDEX workspaces_name ON workspaces (org_id, lower(name)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX workspaces_slug ON workspaces (org_id, slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX policies_name ON policies (org_id, lower(name)) WHERE is_active AND deleted_at IS NULL;
CREATE UNIQUE INDEX policies_in_force ON policies (org_id, root_id) WHERE is_active AND deleted_at IS NULL;
CREATE UNIQUE INDEX policies_default ON policies (org_id) WHERE is_default AND is_active AND deleted_at IS NULL;
CREATE INDEX api_keys_of_workspace ON api_keys (org_id, workspace_id, id);

-- Row-level security. Two settings, both local to a transaction, open a row to the runtime role:
--   app.current_org_id      the organization, set by every tenant transaction;
--   app.sentinel_unscoped   'on' in the few statements that cannot know the organization yet (`src/store/unscoped.rs`
--                           and `sessions.rs`). It opens only the tables and commands named in the `_unscoped_` policies.
-- A setting and not SECURITY DEFINER functions: under FORCE such a function needs an owner with BYPASSRLS, which hosted
-- PostgreSQL does not give, and the statements would have a second home outside the program.
-- A setting that was local to an earlier transaction of the connection reads as '' and not as NULL, hence NULLIF.

ALTER TABLE organizations ENABLE ROW LEVEL SECURITY;
ALTER TABLE organizations FORCE ROW LEVEL SECURITY;
CREATE POLICY organizations_tenant ON organizations
    USING (id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE users ENABLE ROW LEVEL SECURITY;
ALTER TABLE users FORCE ROW LEVEL SECURITY;
CREATE POLICY users_tenant ON users
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE policies ENABLE ROW LEVEL SECURITY;
ALTER TABLE policies FORCE ROW LEVEL SECURITY;
CREATE POLICY policies_tenant ON policies
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE workspaces ENABLE ROW LEVEL SECURITY;
ALTER TABLE workspaces FORCE ROW LEVEL SECURITY;
CREATE POLICY workspaces_tenant ON workspaces
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE api_keys ENABLE ROW LEVEL SECURITY;
ALTER TABLE api_keys FORCE ROW LEVEL SECURITY;
CREATE POLICY api_keys_tenant ON api_keys
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

CREATE POLICY organizations_unscoped_select ON organizations FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY users_unscoped_select ON users FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY workspaces_unscoped_select ON workspaces FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY api_keys_unscoped_select ON api_keys FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');

GRANT SELECT, INSERT, UPDATE ON organizations, users, policies, workspaces, api_keys TO sentinel_runtime;
