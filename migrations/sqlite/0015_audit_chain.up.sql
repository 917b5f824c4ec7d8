-- The chain of the audit trail: what one node records of one organization is a stream of linked hashes.

-- How far each stream has come. The nil UUID stands for rows without an organization; no reference, as rows outlive what they
-- speak of.
CREATE TABLE audit_chains (
    org_id BLOB NOT NULL,
    node TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    -- When its first row was complete: older rows of this node have no place in it.
    since INTEGER NOT NULL,
    PRIMARY KEY (org_id, node)
) STRICT;

-- A node's signature under the head of a stream, now and then; append-only.
CREATE TABLE audit_checkpoints (
    org_id BLOB NOT NULL,
    node TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    signed_at INTEGER NOT NULL,
    -- Ed25519.
    public_key BLOB NOT NULL,
    signature BLOB NOT NULL,
    PRIMARY KEY (org_id, node, seq)
) STRICT;
