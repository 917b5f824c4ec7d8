ALTER TABLE saved_filters DROP COLUMN version;
