-- Exact data: values that an organization registered, as salted fingerprints. The values themselves are nowhere. Ids are 16
-- bytes, times are microseconds since 1970 in UTC.

CREATE TABLE data_sets (
    org_id BLOB NOT NULL REFERENCES organizations (id),
    id BLOB NOT NULL,
    name TEXT NOT NULL,
    -- 16 bytes, the key of the fingerprints.
    salt BLOB NOT NULL,
    -- 16 bytes: a bit for every length of a value's form.
    lengths BLOB NOT NULL,
    value_count INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    PRIMARY KEY (org_id, name),
    UNIQUE (org_id, id)
) STRICT;

CREATE TABLE data_set_parts (
    org_id BLOB NOT NULL,
    name TEXT NOT NULL,
    part INTEGER NOT NULL,
    -- 12 bytes for each value.
    fingerprints BLOB NOT NULL,
    PRIMARY KEY (org_id, name, part),
    FOREIGN KEY (org_id, name) REFERENCES data_sets (org_id, name)
) STRICT;
