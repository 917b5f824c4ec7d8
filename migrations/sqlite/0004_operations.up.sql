-- Provider credentials, reports, billing, background jobs, idempotency and saved filters.
-- Ids are 16 bytes, times are microseconds since 1970 in UTC, booleans are 0 or 1, JSON is text.

CREATE TABLE provider_credentials (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    workspace_id BLOB NOT NULL,
    upstream TEXT NOT NULL,
    name TEXT NOT NULL,
    -- Encrypted by the program; `key_id` names the key it was encrypted with.
    ciphertext BLOB NOT NULL,
    nonce BLOB NOT NULL,
    key_id TEXT NOT NULL,
    last_four TEXT NOT NULL,
    is_active INTEGER NOT NULL DEFAULT TRUE,
    created_by BLOB,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    deleted_at INTEGER,
    FOREIGN KEY (org_id, workspace_id) REFERENCES workspaces (org_id, id)
) STRICT;

CREATE TABLE jobs (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    kind TEXT NOT NULL,
    payload TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'dead')),
    attempts INTEGER NOT NULL DEFAULT 0,
    max_attempts INTEGER NOT NULL,
    run_at INTEGER NOT NULL,
    lease_owner TEXT,
    lease_expires_at INTEGER,
    idempotency_key TEXT,
    last_error TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    finished_at INTEGER,
    UNIQUE (org_id, id)
) STRICT;

CREATE TABLE reports (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    workspace_id BLOB,
    report_type TEXT NOT NULL CHECK (report_type IN ('pci_dss', 'gdpr', 'hipaa', 'soc2')),
    format TEXT NOT NULL CHECK (format IN ('pdf', 'xlsx', 'csv', 'json')),
    period_start INTEGER NOT NULL,
    period_end INTEGER NOT NULL,
    parameters TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('queued', 'running', 'completed', 'failed')),
    job_id BLOB,
    storage_key TEXT,
    signed_url TEXT,
    signed_url_expires_at INTEGER,
    sha256 BLOB,
    size_bytes INTEGER,
    row_counts TEXT,
    chain_head BLOB,
    generator_version TEXT,
    error TEXT,
    requested_by BLOB,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    completed_at INTEGER,
    deleted_at INTEGER,
    FOREIGN KEY (org_id, workspace_id) REFERENCES workspaces (org_id, id),
    FOREIGN KEY (org_id, job_id) REFERENCES jobs (org_id, id)
) STRICT;

CREATE TABLE subscriptions (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL REFERENCES organizations (id),
    plan TEXT NOT NULL CHECK (plan IN ('free', 'starter', 'pro', 'enterprise')),
    status TEXT NOT NULL CHECK (status IN ('trialing', 'active', 'past_due', 'canceled', 'unpaid', 'incomplete')),
    stripe_customer_id TEXT,
    stripe_subscription_id TEXT,
    stripe_price_id TEXT,
    billing_interval TEXT CHECK (billing_interval IN ('month', 'year')),
    amount_cents INTEGER,
    -- ISO 4217
    currency TEXT,
    current_period_start INTEGER,
    current_period_end INTEGER,
    trial_ends_at INTEGER,
    cancel_at_period_end INTEGER NOT NULL DEFAULT FALSE,
    canceled_at INTEGER,
    last_payment_at INTEGER,
    last_payment_status TEXT,
    last_invoice_id TEXT,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL
) STRICT;

CREATE TABLE idempotency_keys (
    org_id BLOB NOT NULL REFERENCES organizations (id),
    idempotency_key TEXT NOT NULL,
    user_id BLOB,
    method TEXT NOT NULL,
    path TEXT NOT NULL,
    request_hash BLOB NOT NULL,
    -- NULL while the first request runs.
    status INTEGER,
    response TEXT,
    created_at INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, idempotency_key)
) STRICT;

CREATE TABLE saved_filters (
    id BLOB NOT NULL PRIMARY KEY,
    org_id BLOB NOT NULL,
    user_id BLOB NOT NULL,
    resource TEXT NOT NULL,
    name TEXT NOT NULL,
    filter TEXT NOT NULL,
    is_shared INTEGER NOT NULL DEFAULT FALSE,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    UNIQUE (org_id, user_id, resource, name),
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
) STRICT;

CREATE UNIQUE INDEX provider_credentials_in_use ON provider_credentials (org_id, workspace_id, upstream) WHERE is_active AND deleted_at IS NULL;
CREATE INDEX jobs_due ON jobs (run_at, id) WHERE state = 'queued';
CREATE UNIQUE INDEX jobs_idempotency ON jobs (org_id, kind, idempotency_key) WHERE idempotency_key IS NOT NULL;
CREATE INDEX reports_page ON reports (org_id, id);
CREATE UNIQUE INDEX subscriptions_stripe ON subscriptions (stripe_subscription_id) WHERE stripe_subscription_id IS NOT NULL;
CREATE UNIQUE INDEX subscriptions_current ON subscriptions (org_id) WHERE status <> 'canceled';
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- What PostgreSQL's NOTIFY is: changes that other processes on this file (the command line) tell a running server. The
-- newest thousand are kept.
CREATE TABLE change_notices (
    id INTEGER NOT NULL PRIMARY KEY,
    payload TEXT NOT NULL
) STRICT;
