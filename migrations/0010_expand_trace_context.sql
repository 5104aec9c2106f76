-- The trace that a message belongs to (ADR 29), so that whoever sends it goes on in it. Of traced orders only; null
-- costs a bit that every row has already.

ALTER TABLE outbox ADD COLUMN trace_context text;
COMMENT ON COLUMN outbox.trace_context IS
    'W3C traceparent and, after a space, tracestate of the span that stored the event. Null: not traced.';
