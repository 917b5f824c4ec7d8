-- The audit trail as it is searched, reviewed, aged out and erased.

-- What is found in a row and done about it, as words that an index leads by: `category:`, `rule:`, `action:` and `risk:` and a
-- value. Rows of requests that were simply allowed have none.
CREATE TABLE audit_terms (
    org_id UUID NOT NULL,
    term TEXT NOT NULL,
    occurred_at TIMESTAMPTZ NOT NULL,
    id UUID NOT NULL,
    PRIMARY KEY (org_id, term, occurred_at, id)
);

-- For the rows of all organizations, which the owner does not see either.
ALTER TABLE audit_logs NO FORCE ROW LEVEL SECURITY;
INSERT INTO audit_terms (org_id, term, occurred_at, id)
SELECT a.org_id, t.term, a.occurred_at, a.id
FROM audit_logs a CROSS JOIN LATERAL (
    SELECT 'category:' || c FROM jsonb_array_elements_text(a.categories) c
    UNION SELECT 'category:' || c FROM jsonb_array_elements_text(COALESCE(a.answer -> 'categories', '[]')) c
    UNION SELECT 'rule:' || (f ->> 'rule_id')
        FROM jsonb_array_elements(a.findings || COALESCE(a.answer -> 'findings', '[]')) f
    UNION SELECT 'action:' || a.action WHERE a.action <> 'allow'
    UNION SELECT 'action:block' WHERE a.outcome = 'blocked'
    UNION SELECT 'risk:50' WHERE a.risk_score >= 50
    UNION SELECT 'risk:80' WHERE a.risk_score >= 80
) AS t (term)
WHERE a.org_id IS NOT NULL;
ALTER TABLE audit_logs FORCE ROW LEVEL SECURITY;

ALTER TABLE audit_terms ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_terms FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_terms_tenant ON audit_terms
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
CREATE POLICY audit_terms_unscoped_insert ON audit_terms FOR INSERT
    WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');
-- Made of the rows, and can be made of them again.
GRANT SELECT, INSERT, DELETE ON audit_terms TO sentinel_runtime;

CREATE INDEX audit_logs_workspace ON audit_logs (org_id, workspace_id, occurred_at, id);
CREATE INDEX audit_logs_api_key ON audit_logs (org_id, api_key_id, occurred_at, id);
CREATE INDEX audit_logs_user ON audit_logs (org_id, user_id, occurred_at, id) WHERE user_id IS NOT NULL;
CREATE INDEX audit_logs_model ON audit_logs (org_id, model, occurred_at, id) WHERE model IS NOT NULL;
CREATE INDEX audit_logs_upstream ON audit_logs (org_id, upstream, occurred_at, id) WHERE upstream IS NOT NULL;
CREATE INDEX audit_logs_policy ON audit_logs (org_id, policy_id, policy_version, occurred_at, id)
    WHERE policy_id IS NOT NULL;

-- What an organization wants of its trail.
CREATE TABLE audit_settings (
    org_id UUID NOT NULL PRIMARY KEY REFERENCES organizations (id),
    -- NULL: as long as its tier keeps rows.
    retention_days BIGINT CHECK (retention_days > 0),
    -- While it holds, nothing is removed or erased.
    legal_hold BOOLEAN NOT NULL DEFAULT FALSE,
    hold_reason TEXT,
    -- How long a review may take.
    review_hours BIGINT NOT NULL DEFAULT 72 CHECK (review_hours > 0)
);

ALTER TABLE audit_settings ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_settings FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_settings_tenant ON audit_settings
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
CREATE POLICY audit_settings_unscoped_select ON audit_settings FOR SELECT
    USING (current_setting('app.sentinel_unscoped', true) = 'on');
GRANT SELECT, INSERT, UPDATE ON audit_settings TO sentinel_runtime;

-- Requests that somebody is to look at. No foreign keys to people and rows, which may go.
CREATE TABLE audit_reviews (
    org_id UUID NOT NULL,
    audit_id UUID NOT NULL,
    escalated_at TIMESTAMPTZ NOT NULL,
    -- NULL: the policy.
    escalated_by UUID,
    reason TEXT,
    assignee_id UUID,
    due_at TIMESTAMPTZ NOT NULL,
    outcome TEXT,
    resolved_at TIMESTAMPTZ,
    resolved_by UUID,
    PRIMARY KEY (org_id, audit_id)
);

CREATE TABLE audit_review_comments (
    org_id UUID NOT NULL,
    id UUID NOT NULL,
    audit_id UUID NOT NULL,
    author_id UUID NOT NULL,
    body TEXT NOT NULL,
    created_at TIMESTAMPTZ NOT NULL,
    PRIMARY KEY (org_id, id),
    FOREIGN KEY (org_id, audit_id) REFERENCES audit_reviews (org_id, audit_id)
);

CREATE INDEX audit_reviews_escalated ON audit_reviews (org_id, escalated_at, audit_id);
CREATE INDEX audit_reviews_due ON audit_reviews (org_id, due_at, audit_id);
CREATE INDEX audit_review_comments_of ON audit_review_comments (org_id, audit_id, id);

ALTER TABLE audit_reviews ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_reviews FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_reviews_tenant ON audit_reviews
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
CREATE POLICY audit_reviews_unscoped_insert ON audit_reviews FOR INSERT
    WITH CHECK (current_setting('app.sentinel_unscoped', true) = 'on');

ALTER TABLE audit_review_comments ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_review_comments FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_review_comments_tenant ON audit_review_comments
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
GRANT SELECT, INSERT, UPDATE, DELETE ON audit_reviews TO sentinel_runtime;
GRANT SELECT, INSERT, DELETE ON audit_review_comments TO sentinel_runtime;

-- Rows that were removed: the part of a stream that is not there any more, and how it ended.
CREATE TABLE audit_removals (
    org_id UUID NOT NULL,
    node TEXT NOT NULL,
    -- The first and the last place.
    from_seq BIGINT NOT NULL,
    seq BIGINT NOT NULL,
    -- Of the last row.
    hash BYTEA NOT NULL,
    -- Rows that occurred before this were to go.
    before TIMESTAMPTZ NOT NULL,
    -- By these rows' organization, or its tier.
    retention_days BIGINT NOT NULL,
    removed_at TIMESTAMPTZ NOT NULL,
    -- Ed25519.
    public_key BYTEA NOT NULL,
    signature BYTEA NOT NULL,
    PRIMARY KEY (org_id, node, from_seq)
);

ALTER TABLE audit_removals ENABLE ROW LEVEL SECURITY;
ALTER TABLE audit_removals FORCE ROW LEVEL SECURITY;
CREATE POLICY audit_removals_tenant ON audit_removals
    USING (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid)
    WITH CHECK (org_id = NULLIF(current_setting('app.current_org_id', true), '')::uuid);
GRANT SELECT, INSERT ON audit_removals TO sentinel_runtime;

-- SHA-256 of the row's id and the value that was erased.
ALTER TABLE audit_logs ADD COLUMN user_id_hash BYTEA;
ALTER TABLE audit_logs ADD COLUMN client_ip_hash BYTEA;

-- The runtime role may neither delete rows nor change what they say. These two do it for the organization of the transaction,
-- within bounds, and not while a legal hold stands. They return how many rows they touched.
CREATE FUNCTION sentinel_remove_audit(ids JSONB, before TIMESTAMPTZ) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    org UUID := NULLIF(current_setting('app.current_org_id', true), '')::uuid;
    removed BIGINT;
BEGIN
    PERFORM FROM audit_settings WHERE org_id = org AND legal_hold;
    IF FOUND THEN
        RETURN 0;
    END IF;
    DELETE FROM audit_logs a USING jsonb_array_elements_text(ids) i
    WHERE a.org_id = org AND a.id = CAST(i AS UUID) AND a.occurred_at < before;
    GET DIAGNOSTICS removed = ROW_COUNT;
    RETURN removed;
END $$;

CREATE FUNCTION sentinel_erase_audit(erased JSONB) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    org UUID := NULLIF(current_setting('app.current_org_id', true), '')::uuid;
    changed BIGINT;
BEGIN
    PERFORM FROM audit_settings WHERE org_id = org AND legal_hold;
    IF FOUND THEN
        RETURN 0;
    END IF;
    UPDATE audit_logs a SET
        user_id = NULL,
        client_ip = NULL,
        user_id_hash = COALESCE(a.user_id_hash, decode(e.user_id, 'hex')),
        client_ip_hash = COALESCE(a.client_ip_hash, decode(e.client_ip, 'hex'))
    FROM jsonb_to_recordset(erased) AS e(id UUID, user_id TEXT, client_ip TEXT)
    WHERE a.org_id = org AND a.id = e.id;
    GET DIAGNOSTICS changed = ROW_COUNT;
    RETURN changed;
END $$;

REVOKE ALL ON FUNCTION sentinel_remove_audit(JSONB, TIMESTAMPTZ) FROM PUBLIC;
REVOKE ALL ON FUNCTION sentinel_erase_audit(JSONB) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sentinel_remove_audit(JSONB, TIMESTAMPTZ) TO sentinel_runtime;
GRANT EXECUTE ON FUNCTION sentinel_erase_audit(JSONB) TO sentinel_runtime;
