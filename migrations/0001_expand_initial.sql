-- The tables of one shard. An order, its invoices, their inbox rows and the messages owed for them all
-- carry the order's slot, so that one local transaction covers them and a slot can move as a whole.

-- hash64(order_id) mod 4096, as in pipeline/sharding/slots.py: the last 12 of SHA-256's first 64 bits.
CREATE FUNCTION slot_of(key text) RETURNS smallint
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN ((get_byte(sha256(convert_to(key, 'UTF8')), 6) & 15) << 8
            | get_byte(sha256(convert_to(key, 'UTF8')), 7))::smallint;

-- The id of a message follows from what it is for: 15 bytes of SHA-256 and one byte for the kind
-- (1 order SMS, 2 order e-mail, 3 invoice e-mail), so that the same message cannot be owed twice.
CREATE FUNCTION effect_id_of(key text, kind_code integer) RETURNS uuid
    LANGUAGE sql IMMUTABLE PARALLEL SAFE STRICT
    RETURN encode(set_byte(substr(sha256(convert_to(key, 'UTF8')), 1, 16), 15, kind_code), 'hex')::uuid;

CREATE TABLE shard_slot (
    slot        smallint NOT NULL,
    epoch       bigint NOT NULL,
    state       text DEFAULT 'owned' NOT NULL,
    CONSTRAINT pk_shard_slot PRIMARY KEY (slot),
    CONSTRAINT cns_shard_slot_range CHECK (slot BETWEEN 0 AND 4095),
    CONSTRAINT cns_shard_slot_state CHECK (state IN ('owned', 'leaving', 'arriving'))
);
COMMENT ON TABLE shard_slot IS 'The slots this shard owns, and since which epoch of the shard map.';

CREATE TABLE inbox (
    slot         smallint NOT NULL,
    event_key    uuid NOT NULL,
    payload_hash uuid NOT NULL,
    recorded_at  timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_inbox PRIMARY KEY (slot, event_key)
);
COMMENT ON TABLE inbox IS 'Identities of the events already applied.';
COMMENT ON COLUMN inbox.event_key IS 'The first 16 bytes of SHA-256 of: source, a newline, id.';
COMMENT ON COLUMN inbox.payload_hash IS 'The first 16 bytes of SHA-256 of the data in canonical form.';

CREATE TABLE orders (
    slot           smallint NOT NULL,
    order_id       text NOT NULL,
    number         text,
    customer_id    text,
    customer_name  text,
    email          text,
    phone          text,
    locale         text,
    country        text,
    currency       text NOT NULL,
    total          numeric(18, 4) NOT NULL,
    lines          jsonb NOT NULL,
    processed_at   timestamptz NOT NULL,
    event_source   text NOT NULL,
    event_id       text NOT NULL,
    event_time     timestamptz,
    recorded_at    timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_orders PRIMARY KEY (slot, order_id)
);
COMMENT ON COLUMN orders.number IS 'What the customer calls the order; the id where absent.';
COMMENT ON COLUMN orders.event_time IS 'CloudEvents time: when upstream says it happened.';

CREATE TABLE invoices (
    slot           smallint NOT NULL,
    order_id       text NOT NULL,
    invoice_id     text NOT NULL,
    number         text,
    currency       text NOT NULL,
    total          numeric(18, 4) NOT NULL,
    issued_at      timestamptz NOT NULL,
    media_type     text NOT NULL,
    filename       text,
    document       bytea,
    document_url   text,
    effect_id      uuid,
    event_source   text NOT NULL,
    event_id       text NOT NULL,
    event_time     timestamptz,
    recorded_at    timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_invoices PRIMARY KEY (slot, order_id, invoice_id),
    CONSTRAINT cns_invoices_document CHECK (num_nonnulls(document, document_url) = 1)
);
COMMENT ON COLUMN invoices.effect_id IS 'The message that carries this invoice; null while it waits for one.';
CREATE INDEX idx_invoices_waiting ON invoices (slot, order_id) WHERE effect_id IS NULL;

CREATE TABLE outbox (
    slot          smallint NOT NULL,
    effect_id     uuid NOT NULL,
    order_id      text NOT NULL,
    invoice_id    text,
    channel       text NOT NULL,
    kind          text NOT NULL,
    state         text DEFAULT 'pending' NOT NULL,
    due_at        timestamptz DEFAULT now() NOT NULL,
    expires_at    timestamptz NOT NULL,
    attempts      smallint DEFAULT 0 NOT NULL,
    claim_id      uuid,
    lease_until   timestamptz,
    provider      text,
    provider_id   text,
    reason        text,
    created_at    timestamptz DEFAULT now() NOT NULL,
    accepted_at   timestamptz,
    CONSTRAINT pk_outbox PRIMARY KEY (slot, effect_id),
    CONSTRAINT cns_outbox_channel CHECK (channel IN ('sms', 'email')),
    CONSTRAINT cns_outbox_kind CHECK (kind IN ('order_sms', 'order_email', 'invoice_email')),
    CONSTRAINT cns_outbox_state CHECK (state IN ('pending', 'submitting', 'unknown', 'accepted', 'delivered',
        'undelivered', 'suppressed', 'expired', 'failed', 'abandoned'))
) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_threshold = 2000);
COMMENT ON TABLE outbox IS 'The effect ledger: one row for each SMS or e-mail owed, and what became of it.';
COMMENT ON COLUMN outbox.claim_id IS 'Fencing token: only the process that holds the claim may record a receipt.';
COMMENT ON COLUMN outbox.provider_id IS 'Twilio message SID, or the Message-ID of the mail.';
CREATE INDEX idx_outbox_due ON outbox (channel, due_at) WHERE state = 'pending';
CREATE INDEX idx_outbox_leased ON outbox (lease_until) WHERE state = 'submitting';

CREATE TABLE quarantine (
    slot           smallint NOT NULL,
    quarantine_id  uuid NOT NULL,
    reason         text NOT NULL,
    detail         text NOT NULL,
    queue          text NOT NULL,
    exchange       text NOT NULL,
    routing_key    text NOT NULL,
    content_type   text,
    message_id     text,
    headers        jsonb NOT NULL,
    body           bytea NOT NULL,
    seen           integer DEFAULT 1 NOT NULL,
    first_seen_at  timestamptz DEFAULT now() NOT NULL,
    last_seen_at   timestamptz DEFAULT now() NOT NULL,
    state          text DEFAULT 'held' NOT NULL,
    CONSTRAINT pk_quarantine PRIMARY KEY (slot, quarantine_id),
    CONSTRAINT cns_quarantine_state CHECK (state IN ('held', 'redriven', 'dropped'))
);
COMMENT ON TABLE quarantine IS 'Deliveries that are no valid event, byte for byte, with the reason.';
COMMENT ON COLUMN quarantine.seen IS 'How often exactly this delivery came.';

CREATE TABLE intake_batch (
    batch_id     bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at  timestamptz DEFAULT now() NOT NULL,
    trigger      text NOT NULL,
    events       integer NOT NULL,
    orders       integer NOT NULL,
    invoices     integer NOT NULL,
    duplicates   integer NOT NULL,
    quarantined  integer NOT NULL,
    CONSTRAINT pk_intake_batch PRIMARY KEY (batch_id),
    CONSTRAINT cns_intake_batch_sum CHECK (events = orders + invoices + duplicates + quarantined)
);
COMMENT ON TABLE intake_batch IS
    'One row for each intake transaction: its sums, and a write that makes the commit wait for the replica '
    'even when every event in it was a duplicate.';
CREATE INDEX idx_intake_batch_recorded ON intake_batch (recorded_at);

CREATE TABLE receipt_batch (
    batch_id     bigint GENERATED ALWAYS AS IDENTITY,
    recorded_at  timestamptz DEFAULT now() NOT NULL,
    channel      text NOT NULL,
    accepted     integer NOT NULL,
    suppressed   integer NOT NULL,
    expired      integer NOT NULL,
    failed       integer NOT NULL,
    unknown      integer NOT NULL,
    retried      integer NOT NULL,
    CONSTRAINT pk_receipt_batch PRIMARY KEY (batch_id)
);
COMMENT ON TABLE receipt_batch IS 'One row for each set of receipts recorded: the sums behind the KPIs.';
CREATE INDEX idx_receipt_batch_recorded ON receipt_batch (recorded_at);
