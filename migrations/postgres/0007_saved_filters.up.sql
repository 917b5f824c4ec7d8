-- Saved filters are changed with `If-Match`.

ALTER TABLE saved_filters ADD COLUMN version BIGINT NOT NULL DEFAULT 1;
