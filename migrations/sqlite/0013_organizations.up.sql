-- Organizations that are deleted: who may take it back, and which are to be removed for good.

-- SHA-256 of the token that restores a deleted organization.
ALTER TABLE organizations ADD COLUMN restore_hash BLOB;

CREATE INDEX organizations_deleted ON organizations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE UNIQUE INDEX organizations_restore ON organizations (restore_hash) WHERE restore_hash IS NOT NULL;
