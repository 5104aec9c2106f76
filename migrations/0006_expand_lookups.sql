-- outside a transaction
-- An invoice is found without its order, and a customer's orders without reading a shard through. The orders of a
-- customer are read backwards, the latest first: an ascending index serves that as well as a descending one.
DROP INDEX CONCURRENTLY IF EXISTS idx_invoices_invoice;

CREATE INDEX CONCURRENTLY idx_invoices_invoice ON invoices (invoice_id);

DROP INDEX CONCURRENTLY IF EXISTS idx_orders_customer;

CREATE INDEX CONCURRENTLY idx_orders_customer ON orders (customer_id, processed_at) WHERE customer_id IS NOT NULL;
