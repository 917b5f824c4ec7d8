-- How much organizations use.
-- Ids are 16 bytes.

-- Requests that were admitted, by calendar month in UTC. Every node adds its own.
CREATE TABLE usage_counters (
    org_id BLOB NOT NULL REFERENCES organizations (id),
    -- Year and month: 202611.
    month INTEGER NOT NULL,
    requests INTEGER NOT NULL CHECK (requests >= 0),
    PRIMARY KEY (org_id, month)
) STRICT;
