-- How much organizations use.

-- Requests that were admitted, by calendar month in UTC. Every node adds its own.
CREATE TABLE usage_counters (
    org_id UUID NOT NULL REFERENCES organizations (id),
    -- Year and month: 202611.
    month BIGINT NOT NULL,
    requests BIGINT NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (org_id, month)
);

ALTER TABLE usage_counters ENABLE ROW LEVEL SECURITY;
ALTER TABLE usage_counters FORCE ROW LEVEL SECURITY;
CREATE POLICY usage_counters_tenant ON usage_counters
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
CREATE POLICY usage_counters_unscoped_select ON usage_counters FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');

GRANT SELECT, INSERT, UPDATE ON usage_counters TO sentinel_runtime;
