-- An invoice whose document cannot be had must not hold up its order's mail: it is left out of that, and
-- gets a mail of its own.
ALTER TABLE invoices ADD COLUMN travels_alone boolean DEFAULT false NOT NULL;
COMMENT ON COLUMN invoices.travels_alone IS 'Left out of the order mail, because its document could not be had.';
