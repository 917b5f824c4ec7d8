ALTER TABLE provider_credentials ADD COLUMN nonce BYTEA NOT NULL DEFAULT '';
ALTER TABLE provider_credentials ALTER COLUMN nonce DROP DEFAULT;
