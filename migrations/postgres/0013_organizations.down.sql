DROP FUNCTION sentinel_purge_organization(UUID, TIMESTAMPTZ);
DROP INDEX organizations_restore;
DROP INDEX organizations_deleted;
ALTER TABLE organizations DROP COLUMN restore_hash;
