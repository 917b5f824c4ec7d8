-- Organizations that are deleted: who may take it back, and how one is removed for good.

-- SHA-256 of the token that restores a deleted organization.
ALTER TABLE organizations ADD COLUMN restore_hash BYTEA;

CREATE INDEX organizations_deleted ON organizations (deleted_at) WHERE deleted_at IS NOT NULL;
CREATE UNIQUE INDEX organizations_restore ON organizations (restore_hash) WHERE restore_hash IS NOT NULL;

-- The runtime role may delete neither people nor trails, so removing an organization is a function of the owner's, which
-- does it to those only that were deleted before. 0: it was not. 1: a part is removed, call again. 2: it is gone.
-- Every table with an `org_id` is emptied of it, whichever migration made it, those that others refer to last. Row-level
-- security is forced on the owner too: the function enters the organization like any statement, and reaches no other.
CREATE FUNCTION sentinel_purge_organization(purged UUID, deleted_before TIMESTAMPTZ) RETURNS BIGINT
LANGUAGE plpgsql SECURITY DEFINER SET search_path = public, pg_temp AS $$
DECLARE
    pending TEXT[];
    referred TEXT[];
    this TEXT;
    part BIGINT;
BEGIN
    PERFORM set_config('app.current_org_id', purged::text, true);
    PERFORM FROM organizations o WHERE o.id = purged AND o.deleted_at < deleted_before FOR UPDATE;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    FOREACH this IN ARRAY ARRAY['audit_logs', 'admin_events'] LOOP
        EXECUTE format('DELETE FROM %1$I WHERE id IN (SELECT id FROM %1$I WHERE org_id = $1 LIMIT 5000)', this)
            USING purged;
        GET DIAGNOSTICS part = ROW_COUNT;
        IF part > 0 THEN
            RETURN 1;
        END IF;
    END LOOP;
    SELECT array_agg(c.relname::text) INTO pending
    FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid
    WHERE c.relnamespace = 'public'::regnamespace
        AND c.relkind IN ('r', 'p')
        AND NOT c.relispartition
        AND a.attname = 'org_id'
        AND NOT a.attisdropped;
    LOOP
        referred := '{}';
        FOREACH this IN ARRAY pending LOOP
            BEGIN
                EXECUTE format('DELETE FROM %I WHERE org_id = $1', this) USING purged;
            EXCEPTION WHEN foreign_key_violation THEN
                referred := referred || this;
            END;
        END LOOP;
        EXIT WHEN cardinality(referred) = 0;
        IF cardinality(referred) = cardinality(pending) THEN
            RAISE EXCEPTION 'rows of % refer to each other', referred;
        END IF;
        pending := referred;
    END LOOP;
    DELETE FROM organizations WHERE id = purged;
    RETURN 2;
END $$;

REVOKE ALL ON FUNCTION sentinel_purge_organization(UUID, TIMESTAMPTZ) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION sentinel_purge_organization(UUID, TIMESTAMPTZ) TO sentinel_runtime;
