-- What opens a live stream of events, once.

CREATE TABLE event_tickets (
    -- SHA-256 of the ticket.
    token_hash BYTEA NOT NULL PRIMARY KEY,
    org_id UUID NOT NULL,
    user_id UUID NOT NULL,
    -- Without a reference: sessions are pruned, and a ticket of one that is gone opens nothing.
    session_id UUID NOT NULL,
    expires_at TIMESTAMPTZ NOT NULL,
    FOREIGN KEY (org_id, user_id) REFERENCES users (org_id, id)
);

CREATE INDEX event_tickets_expiry ON event_tickets (expires_at);

ALTER TABLE event_tickets ENABLE ROW LEVEL SECURITY;
ALTER TABLE event_tickets FORCE ROW LEVEL SECURITY;
CREATE POLICY event_tickets_tenant ON event_tickets
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);

CREATE POLICY event_tickets_unscoped_select ON event_tickets FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
CREATE POLICY event_tickets_unscoped_delete ON event_tickets FOR DELETE
    USING (current_setting('app.sentinel_unscoped', true) = 'on');

GRANT SELECT, INSERT, DELETE ON event_tickets TO sentinel_runtime;
