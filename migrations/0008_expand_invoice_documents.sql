-- outside a transaction
-- An invoice without a document of upstream's gets one of ours. The rows there are need no look for that, but a
-- constraint that was never checked is not trusted by a restore; the look locks nobody out, in a statement of its own.
ALTER TABLE invoices
    DROP CONSTRAINT IF EXISTS cns_invoices_document,
    ADD CONSTRAINT cns_invoices_document CHECK (num_nonnulls(document, document_url) <= 1) NOT VALID;

ALTER TABLE invoices VALIDATE CONSTRAINT cns_invoices_document;
