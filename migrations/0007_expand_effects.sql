-- The effect ledger grows up (ADR 16): the database refuses what the state machine does not know, an effect
-- says what became of it last, what is out of the ordinary is noted, and recipients can be left alone.

ALTER TABLE outbox
    ADD COLUMN claimed_at timestamptz,
    ADD COLUMN settled_at timestamptz,
    ADD COLUMN provider_status text,
    ADD COLUMN provider_status_at timestamptz;
COMMENT ON COLUMN outbox.claimed_at IS 'Since when the last claim: no call was made under it before.';
COMMENT ON COLUMN outbox.settled_at IS 'When it came to its last state but accepted, which has a time of its own.';
COMMENT ON COLUMN outbox.provider_status IS 'The provider''s latest word; it only goes forward.';

-- One line: AFTER, not BEFORE, because that does not lock the row a second time.
CREATE FUNCTION refuse_transition() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN RAISE EXCEPTION 'effect %: % cannot become %', old.effect_id, old.state, new.state USING ERRCODE = 'check_violation'; END $$;
CREATE TRIGGER trg_outbox_transition AFTER UPDATE OF state ON outbox FOR EACH ROW
WHEN (old.state <> new.state AND NOT CASE old.state
    WHEN 'pending' THEN new.state IN ('submitting', 'suppressed', 'expired', 'accepted', 'delivered', 'undelivered')
    WHEN 'submitting' THEN new.state IN ('accepted', 'delivered', 'undelivered', 'pending', 'unknown',
                                         'suppressed', 'expired', 'failed')
    WHEN 'unknown' THEN new.state IN ('accepted', 'delivered', 'undelivered', 'pending', 'abandoned',
                                      'suppressed', 'expired', 'failed')
    WHEN 'accepted' THEN new.state IN ('delivered', 'undelivered')
    WHEN 'abandoned' THEN new.state IN ('accepted', 'delivered', 'undelivered')
    ELSE false END)
EXECUTE FUNCTION refuse_transition();
COMMENT ON FUNCTION refuse_transition() IS
    'Pending may become accepted, and abandoned too, because a late word of the provider is better knowledge.';

CREATE TABLE effect_note (
    slot       smallint NOT NULL,
    effect_id  uuid NOT NULL,
    note_id    uuid DEFAULT gen_random_uuid() NOT NULL,
    at         timestamptz DEFAULT clock_timestamp() NOT NULL,
    what       text NOT NULL,
    provider   text,
    detail     text NOT NULL,
    actor      text NOT NULL,
    CONSTRAINT pk_effect_note PRIMARY KEY (slot, effect_id, note_id)
);
COMMENT ON TABLE effect_note IS
    'What happened to a message out of the ordinary: tries put off, unknown outcomes, what was found out, who decided.';
COMMENT ON COLUMN effect_note.what IS 'retry, unknown, asked, resolved, status, stale_receipt.';
COMMENT ON COLUMN effect_note.detail IS 'Codes and ids, never a number, an address or a text.';
COMMENT ON COLUMN effect_note.actor IS 'The part of the pipeline, or who gave the command.';

CREATE TABLE recipient (
    slot           smallint NOT NULL,
    recipient_key  uuid NOT NULL,
    channel        text NOT NULL,
    state          text NOT NULL,
    reason         text NOT NULL,
    changed_at     timestamptz NOT NULL,
    recorded_at    timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_recipient PRIMARY KEY (slot, recipient_key),
    CONSTRAINT cns_recipient_channel CHECK (channel IN ('sms', 'email')),
    CONSTRAINT cns_recipient_state CHECK (state IN ('in', 'out'))
);
COMMENT ON TABLE recipient IS
    'Numbers and addresses that get nothing any more, or again: STOP, unsubscribed, bounced. In the slot of their key.';
COMMENT ON COLUMN recipient.recipient_key IS
    'The first 16 bytes of SHA-256 of: channel, a colon, the number in E.164 or the address in small letters.';
COMMENT ON COLUMN recipient.reason IS 'stop, start, provider:CODE, bounce:STATUS, unsubscribe, operator.';

CREATE TABLE recipient_day (
    slot           smallint NOT NULL,
    recipient_key  uuid NOT NULL,
    day            date NOT NULL,
    messages       integer NOT NULL,
    CONSTRAINT pk_recipient_day PRIMARY KEY (slot, recipient_key, day)
) WITH (fillfactor = 80);
COMMENT ON TABLE recipient_day IS 'How many messages a recipient was sent on a day (UTC), for the daily cap.';

-- One round trip that holds the fence and looks after it: in a volatile function each statement has a snapshot
-- of its own. The commit need not wait: a lost count does no harm. Of `wanted` messages `granted` fit the cap.
CREATE FUNCTION count_messages(fence bigint, slots smallint[], keys uuid[], wanted integer[], cap integer)
    RETURNS TABLE (recipient_key uuid, is_owned boolean, refused_for text, granted integer, day date)
    LANGUAGE plpgsql AS $$
#variable_conflict use_column
DECLARE
    today date := (now() AT TIME ZONE 'UTC')::date;
BEGIN
    PERFORM pg_advisory_xact_lock_shared(fence), set_config('synchronous_commit', 'off', true);
    RETURN QUERY
    WITH asked AS (
        SELECT t.slot, t.key, r.state, r.reason, coalesce(d.messages, 0) AS before,
               least(t.wanted, cap - coalesce(d.messages, 0)) AS more,
               coalesce((SELECT s.state FROM shard_slot s WHERE s.slot = t.slot) = 'owned', false) AS owned
        FROM unnest(slots, keys, wanted) AS t(slot, key, wanted)
        LEFT JOIN recipient r ON r.slot = t.slot AND r.recipient_key = t.key
        LEFT JOIN recipient_day d ON d.slot = t.slot AND d.recipient_key = t.key AND d.day = today
    ), counted AS (
        INSERT INTO recipient_day AS d (slot, recipient_key, day, messages)
        SELECT slot, key, today, more FROM asked
        WHERE owned AND more > 0 AND state IS DISTINCT FROM 'out'
        ORDER BY slot, key
        ON CONFLICT (slot, recipient_key, day) DO UPDATE SET messages = d.messages + excluded.messages
        RETURNING recipient_key, messages
    )
    SELECT a.key, a.owned, CASE WHEN a.state = 'out' THEN a.reason END,
           CASE WHEN c.messages IS NULL THEN 0 ELSE greatest(0, least(a.more, cap - c.messages + a.more)) END,
           today
    FROM asked a LEFT JOIN counted c ON c.recipient_key = a.key;
END $$;
COMMENT ON FUNCTION count_messages(bigint, smallint[], uuid[], integer[], integer) IS
    'Counts messages to recipients, up to a cap a day; none to those who want nothing.';

CREATE TABLE sms_spend (
    spend_id     bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at  timestamptz DEFAULT now() NOT NULL,
    country      text NOT NULL,
    segments     integer NOT NULL,
    CONSTRAINT pk_sms_spend PRIMARY KEY (spend_id)
);
COMMENT ON TABLE sms_spend IS 'SMS segments sent, by country calling code: a row for each set of receipts. Not moved.';
CREATE INDEX idx_sms_spend_recorded ON sms_spend (recorded_at);
