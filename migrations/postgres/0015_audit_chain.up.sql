-- The chain of the audit trail: what one node records of one organization is a stream of linked hashes.

-- How far each stream has come. The nil UUID stands for rows without an organization; no reference, as rows outlive what they
-- speak of.
CREATE TABLE audit_chains (
    org_id UUID NOT NULL,
    node TEXT NOT NULL,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    -- When its first row was complete: older rows of this node have no place in it.
    since TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, node)
);

-- A node's signature under the head of a stream, now and then; append-only.
CREATE TABLE audit_checkpoints (
    org_id UUID NOT NULL,
    node TEXT NOT NULL,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    signed_at TIMESTAMPTZ NOT NULL,
    -- Ed25519.
    public_key BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (org_id, node, seq)
);

ALTER TABLE audit_chains ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_chains FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_chains_tenant ON audit_chains
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
CREATE POLICY audit_chains_unscoped_select ON audit_chains FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY audit_chains_unscoped_insert ON audit_chains FOR INSERT
    WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY audit_chains_unscoped_update ON audit_chains FOR UPDATE
    USING (current_setting('app.sentinel_unscoped', true) = 'on') WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');

ALTER TABLE audit_checkpoints ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_checkpoints FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_checkpoints_tenant ON audit_checkpoints
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
CREATE POLICY audit_checkpoints_unscoped_select ON audit_checkpoints FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY audit_checkpoints_unscoped_insert ON audit_checkpoints FOR INSERT
    WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');

GRANT SELECT, INSERT, UPDATE (seq, hash) ON audit_chains TO sentinel_runtime;
GRANT SELECT, INSERT ON audit_checkpoints TO sentinel_runtime;
-- A row enters its chain when it is complete.
GRANT UPDATE (seq, hash) ON audit_logs TO sentinel_runtime;
