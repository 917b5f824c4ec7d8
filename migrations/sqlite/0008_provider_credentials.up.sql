-- Sealed bytes carry their nonce themselves.

ALTER TABLE provider_credentials DROP COLUMN nonce;
