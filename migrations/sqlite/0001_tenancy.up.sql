-- Organizations and what belongs to them: people, workspaces, policies and API keys.
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, booleans are 0 or 1, JSON is text.

CREATE TABLE organizations (
    id BLOB NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    subscription_tier TEXT NOT NULL DEFAULT 'free'
        CHECK (subscription_tier IN ('free', 'starter', 'pro', 'enterprise')),
    is_active INTEGER NOT NULL DEFAULT TRUE,
    billing_email TEXT,
    stripe_customer_id TEXT,
    -- Usage limits: NULL is no limit.
    max_users INTEGER CHECK (max_users >= 0),
    max_workspaces INTEGER CHECK (max_workspaces >= 0),
    max_api_keys INTEGER CHECK (max_api_keys >= 0),
    monthly_request_limit INTEGER CHECK (monthly_request_limit >= 0),
    settings TEXT NOT NULL,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER
) STRICT;

CREATE TABLE users (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    email TEXT NOT NULL,
    -- The address in lower case, made by the program: the engines do not agree on what lower case is.
    email_key TEXT NOT NULL,
    full_name TEXT NOT NULL,
    role TEXT NOT NULL CHECK (role IN ('owner', 'admin', 'member', 'viewer', 'auditor')),
    -- Grants beyond the role: a JSON array of strings.
    permissions TEXT NOT NULL,
    -- NULL for people who sign in through SSO alone.
    password_hash TEXT,
    must_change_password INTEGER NOT NULL DEFAULT FALSE,
    password_changed_at INTEGER,
    is_active INTEGER NOT NULL DEFAULT TRUE,
    email_verified_at INTEGER,
    mfa_enabled INTEGER NOT NULL DEFAULT FALSE,
    -- Encrypted by the program.
    mfa_secret BLOB,
    mfa_enrolled_at INTEGER,
    -- The last time step whose code was taken, so that no code is taken twice.
    last_totp_step INTEGER,
    sso_provider TEXT,
    sso_subject TEXT,
    invited_by BLOB,
    last_login_at INTEGER,
    deactivated_at INTEGER,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    UNIQUE (org_id, id)
) STRICT;

CREATE TABLE policies (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    -- The id of the first version, which all versions carry.
    root_id BLOB NOT NULL,
    name TEXT NOT NULL,
    description TEXT,
    version INTEGER NOT NULL CHECK (version >= 1),
    parent_policy_id BLOB,
    document TEXT NOT NULL,
    is_default INTEGER NOT NULL DEFAULT FALSE,
    -- True for the version in force.
    is_active INTEGER NOT NULL DEFAULT TRUE,
    canary_percentage INTEGER NOT NULL DEFAULT 0 CHECK (canary_percentage BETWEEN 0 AND 100),
    comment TEXT,
    -- Impact, counted by the gateway and by the feedback of reviewers.
    requests_evaluated INTEGER NOT NULL DEFAULT 0,
    requests_blocked INTEGER NOT NULL DEFAULT 0,
    false_positives INTEGER NOT NULL DEFAULT 0,
    false_positive_rate REAL,
    test_run_id BLOB,
    created_by BLOB,
    approved_by BLOB,
    approved_at INTEGER,
    promoted_at INTEGER,
    rolled_back_at INTEGER,
    created_at INTEGER NOT NULL,
    deleted_at INTEGER,
    UNIQUE (org_id, id),
    UNIQUE (org_id, root_id, version),
    FOREIGN KEY (org_id, root_id) REFERENCES policies (org_id, id),
    FOREIGN KEY (org_id, parent_policy_id) REFERENCES policies (org_id, id)
) STRICT;

CREATE TABLE workspaces (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    name TEXT NOT NULL,
    slug TEXT NOT NULL,
    description TEXT,
    environment TEXT NOT NULL,
    -- The root of the policy in force; NULL: the organization's default.
    policy_id BLOB,
    config TEXT NOT NULL,
    is_active INTEGER NOT NULL DEFAULT TRUE,
    version INTEGER NOT NULL DEFAULT 1,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    UNIQUE (org_id, id),
    FOREIGN KEY (org_id, policy_id) REFERENCES policies (org_id, id)
) STRICT;

CREATE TABLE api_keys (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    workspace_id BLOB NOT NULL,
    name TEXT NOT NULL,
    -- SHA-256 of the key; the key itself is stored nowhere.
    key_hash BLOB NOT NULL UNIQUE,
    key_prefix TEXT NOT NULL,
    last_four TEXT NOT NULL,
    -- `process`, `metrics`, `reports`: a JSON array of strings.
    scopes TEXT NOT NULL,
    rate_limit_per_minute INTEGER CHECK (rate_limit_per_minute >= 0),
    is_active INTEGER NOT NULL DEFAULT TRUE,
    expires_at INTEGER,
    last_used_at INTEGER,
    last_used_ip TEXT,
    revoked_at INTEGER,
    rotated_from BLOB,
    reviewed_at INTEGER,
    reviewed_by BLOB,
    created_by BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    FOREIGN KEY (org_id, workspace_id) REFERENCES workspaces (org_id, id)
) STRICT;

CREATE UNIQUE INDEX organizations_slug ON organizations (slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_email ON users (email_key) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX users_sso ON users (sso_provider, sso_subject) WHERE deleted_at IS NULL AND sso_subject IS NOT NULL;
CREATE UNIQUE INDEX workspaces_name ON workspaces (org_id, lower(name)) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX workspaces_slug ON workspaces (org_id, slug) WHERE deleted_at IS NULL;
CREATE UNIQUE INDEX policies_name ON policies (org_id, lower(name)) WHERE is_active AND deleted_at IS NULL;
CREATE UNIQUE INDEX policies_in_force ON policies (org_id, root_id) WHERE is_active AND deleted_at IS NULL;
CREATE UNIQUE INDEX policies_default ON policies (org_id) WHERE is_default AND is_active AND deleted_at IS NULL;
CREATE INDEX api_keys_of_workspace ON api_keys (org_id, workspace_id, id);
