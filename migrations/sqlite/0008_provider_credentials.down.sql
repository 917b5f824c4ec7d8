ALTER TABLE provider_credentials ADD COLUMN nonce BLOB NOT NULL DEFAULT x'';
