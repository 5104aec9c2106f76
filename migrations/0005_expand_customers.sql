-- outside a transaction
-- Customers and their consent (ADR 14): a person's rows carry the person's slot, slot_of(customer_id), and move
-- with it as an order's do.
CREATE TABLE IF NOT EXISTS customers (
    slot          smallint NOT NULL,
    customer_id   text NOT NULL,
    name          text,
    email         text,
    phone         text,
    locale        text,
    country       text,
    updated_at    timestamptz NOT NULL,
    event_source  text NOT NULL,
    event_id      text NOT NULL,
    recorded_at   timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_customers PRIMARY KEY (slot, customer_id)
);
COMMENT ON TABLE customers IS 'Contact details by person, for orders that carry a customer id alone.';
COMMENT ON COLUMN customers.updated_at IS
    'Since when, by upstream''s clock: an older event changes nothing. Never far ahead of our own clock.';

CREATE TABLE IF NOT EXISTS consent (
    slot          smallint NOT NULL,
    customer_id   text NOT NULL,
    channel       text NOT NULL,
    state         text NOT NULL,
    reason        text NOT NULL,
    changed_at    timestamptz NOT NULL,
    recorded_at   timestamptz DEFAULT now() NOT NULL,
    CONSTRAINT pk_consent PRIMARY KEY (slot, customer_id, channel),
    CONSTRAINT cns_consent_channel CHECK (channel IN ('sms', 'email')),
    CONSTRAINT cns_consent_state CHECK (state IN ('in', 'out'))
);
COMMENT ON TABLE consent IS 'What a person wants to get, by channel. No row: nothing was said, so messages go out.';
COMMENT ON COLUMN consent.reason IS 'Where it comes from: customer.updated.';
COMMENT ON COLUMN consent.changed_at IS 'As customers.updated_at, for this channel alone.';

ALTER TABLE intake_batch ADD COLUMN IF NOT EXISTS customers integer DEFAULT 0 NOT NULL;

-- Not checked against the rows there are while the table is locked, but in the next statement.
ALTER TABLE intake_batch
    DROP CONSTRAINT IF EXISTS cns_intake_batch_sum,
    ADD CONSTRAINT cns_intake_batch_sum
        CHECK (events = orders + invoices + customers + duplicates + quarantined) NOT VALID;

ALTER TABLE intake_batch VALIDATE CONSTRAINT cns_intake_batch_sum;
