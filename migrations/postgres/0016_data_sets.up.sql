-- Exact data: values that an organization registered, as salted fingerprints. The values themselves are nowhere.

CREATE TABLE data_sets (
    org_id UUID NOT NULL REFERENCES organizations (id),
    id UUID NOT NULL,
    name TEXT NOT NULL,
    -- 16 bytes, the key of the fingerprints.
    salt BYTEA NOT NULL,
    -- 16 bytes: a bit for every length of a value's form.
    lengths BYTEA NOT NULL,
    value_count BIGINT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    updated_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, name),
    UNIQUE (org_id, id)
);

CREATE TABLE data_set_parts (
    org_id UUID NOT NULL,
    name TEXT NOT NULL,
    part BIGINT NOT NULL,
    -- 12 bytes for each value.
    fingerprints BYTEA NOT NULL,
    PRIMARY KEY (org_id, name, part),
    FOREIGN KEY (org_id, name) REFERENCES data_sets (org_id, name)
);

ALTER TABLE data_sets ENABLE ROW LEVEL SECURITY;
ALTER TABLE data_sets FORCE ROW LEVEL SECURITY;
CREATE POLICY data_sets_tenant ON data_sets
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

ALTER TABLE data_set_parts ENABLE ROW LEVEL SECURITY;
ALTER TABLE data_set_parts FORCE ROW LEVEL SECURITY;
CREATE POLICY data_set_parts_tenant ON data_set_parts
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

GRANT SELECT, INSERT, UPDATE, DELETE ON data_sets, data_set_parts TO sentinel_runtime;
