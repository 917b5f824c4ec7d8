DROP TABLE audit_feedback;
DROP INDEX policies_drafts;
-- What was a draft is no version: an older release would take it for one. Row-level security is forced on the owner too.
ALTER TABLE policies NO FORCE ROW LEVEL SECURITY;
DELETE FROM policies WHERE is_draft;
ALTER TABLE policies FORCE ROW LEVEL SECURITY;
ALTER TABLE policies DROP COLUMN updated_by;
ALTER TABLE policies DROP COLUMN revision;
ALTER TABLE policies DROP COLUMN is_proposal;
ALTER TABLE policies DROP COLUMN is_draft;
