DROP TABLE audit_feedback;
DROP INDEX policies_drafts;
-- What was a draft is no version: an older release would take it for one.
DELETE FROM policies WHERE is_draft;
ALTER TABLE policies DROP COLUMN updated_by;
ALTER TABLE policies DROP COLUMN revision;
ALTER TABLE policies DROP COLUMN is_proposal;
ALTER TABLE policies DROP COLUMN is_draft;
