"""The plans of the hot statements on large tables: by which index, and never by reading a table through.

A million orders with their inbox rows, two million messages, 300,000 invoices, on tables without WAL. Each
statement is planned for the parameters at hand, and then as PostgreSQL does after it has seen it a few times.
`make test-plans` runs these; they take about a minute and a half.
"""

import asyncio
import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import msgspec
import pytest
from spare_database import elsewhere, run_on, spare_databases

from consumers.migration import migrate_all
from pipeline.settings import load_settings
from pipeline.storage.customers import STATEMENTS as CUSTOMERS
from pipeline.storage.retention import RETENTION
from pipeline.storage.statements import EFFECTS, INTAKE, OUTBOX, load_statements
from stack.status import StackStatus

pytestmark = [pytest.mark.integration, pytest.mark.plans, pytest.mark.timeout(400)]

ORDERS = 1_000_000
INVOICED = 300_000
BIG = {"orders", "inbox", "outbox", "invoices", "customers", "consent"}
DAY = timedelta(days=1)

# What is written only, or is one row, or counts everything for a person: nothing to pin.
NOT_PLANNED = {
    "store_few", "store_invoices", "store_customers", "written_up_to", "replayed_up_to",
    "record_intake_batch", "probe", "record_receipt_batch", "quarantine", "note", "tell",
}  # fmt: skip

# By statement: how each large table may be reached. The key is the index, or the kind of scan.
EXPECTED: dict[str, dict[str, set[str]]] = {
    "look": {"inbox": {"pk_inbox"}, "invoices": {"idx_invoices_waiting", "pk_invoices"}},
    "known_orders": {"orders": {"pk_orders"}},
    "keep_traces": {"outbox": {"pk_outbox"}},
    "bring_order_mails_forward": {"outbox": {"pk_outbox"}},
    "owe_invoice_mails": {"outbox": {"pk_outbox"}, "invoices": {"pk_invoices", "idx_invoices_waiting"}},
    "claim": {"outbox": {"idx_outbox_due", "pk_outbox"}, "orders": {"pk_orders"}},
    "carry_invoices": {"invoices": {"pk_invoices", "idx_invoices_waiting"}},
    "leave_out": {"invoices": {"pk_invoices", "idx_invoices_invoice"}},  # by its own id: as rare as the key
    "next_due": {"outbox": {"idx_outbox_due"}},
    "record_receipts": {"outbox": {"pk_outbox"}},
    "late_receipts": {"outbox": {"pk_outbox"}},
    "apply_statuses": {"outbox": {"pk_outbox"}},
    "take_unknown": {"outbox": {"idx_outbox_unknown", "pk_outbox"}, "orders": {"pk_orders"}},
    "conclude": {"outbox": {"pk_outbox", "idx_outbox_unknown"}},
    "unknown_totals": {"outbox": {"idx_outbox_unknown"}},
    "release": {"outbox": {"idx_outbox_leased"}},
    "expire_leases": {"outbox": {"idx_outbox_leased", "pk_outbox"}},
    "owe_left_behind_invoices": {
        "invoices": {"idx_invoices_waiting", "pk_invoices", "idx_invoices_invoice"},
        "outbox": {"pk_outbox"}, "orders": {"pk_orders"},
    },
    "read_persons": {"customers": {"pk_customers"}, "consent": {"pk_consent"}},
    "order": {"orders": {"pk_orders"}, "invoices": {"pk_invoices"}, "outbox": {"pk_outbox"}},
    "invoice": {"invoices": {"idx_invoices_invoice"}},
    "customer": {
        "orders": {"idx_orders_customer"}, "customers": {"pk_customers"}, "consent": {"pk_consent"},
    },
    "delete_inbox": {
        "inbox": {"Tid Range Scan"},
        "outbox": {"idx_outbox_unknown", "idx_outbox_leased", "idx_outbox_due"},
        "orders": {"pk_orders"},
        "invoices": {"pk_invoices"},
    },
    "delete_outbox": {"outbox": {"Tid Range Scan"}},
    "survey_inbox": {"inbox": {"Tid Range Scan"}},
    "survey_outbox": {"outbox": {"Tid Range Scan"}},
}  # fmt: skip

FILL = f"""
ALTER TABLE orders SET UNLOGGED; ALTER TABLE inbox SET UNLOGGED;
ALTER TABLE outbox SET UNLOGGED; ALTER TABLE invoices SET UNLOGGED;
ALTER TABLE customers SET UNLOGGED; ALTER TABLE consent SET UNLOGGED;
INSERT INTO orders (slot, order_id, number, customer_id, customer_name, email, phone, currency, total, lines,
                    processed_at, event_source, event_id, recorded_at)
SELECT slot_of('o-' || n), 'o-' || n, n, 'c-' || n % 100000, 'Ada Example', n || '@example.com',
       '+14155550123', 'EUR', 74.40, '[{{"sku": "LP-77", "quantity": 2, "unit_price": "29.95"}}]',
       now(), '/tests', 'e-' || n, now() - n * interval '40 days' / {ORDERS}
FROM generate_series({ORDERS}, 1, -1) n;
INSERT INTO inbox SELECT slot, event_key_of(event_source, event_id), event_key_of('', event_id), recorded_at
FROM orders;
INSERT INTO invoices (slot, order_id, invoice_id, currency, total, issued_at, media_type, document, effect_id,
                      event_source, event_id, recorded_at)
SELECT slot, order_id, 'i-' || order_id, 'EUR', 74.40, now(), 'application/pdf', 'x',
       CASE WHEN n > 500 THEN effect_id_of(order_id, 2) END, '/tests', 'i-' || order_id, recorded_at
FROM (SELECT *, row_number() OVER (ORDER BY recorded_at DESC) AS n FROM orders) o WHERE n <= {INVOICED};
-- The last 4,000 orders' mails wait, and a few of before never came to an end.
INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, due_at, expires_at, claim_id,
                    lease_until, created_at, accepted_at)
SELECT slot, effect_id_of(order_id, k), order_id, CASE k WHEN 1 THEN 'sms' ELSE 'email' END,
       CASE k WHEN 1 THEN 'order_sms' ELSE 'order_email' END, s.state, recorded_at,
       recorded_at + interval '1 day',
       CASE WHEN s.state <> 'pending' THEN event_key_of('claim', (n / 100)::text) END,
       CASE WHEN s.state = 'submitting' THEN now() + interval '1 minute' END, recorded_at, recorded_at
FROM (SELECT *, row_number() OVER (ORDER BY recorded_at DESC) AS n FROM orders) o, generate_series(1, 2) k,
     LATERAL (SELECT CASE WHEN n <= 4000 THEN 'pending' WHEN n <= 4100 THEN 'submitting'
                          WHEN n % 1000 = 0 THEN 'unknown' WHEN n % 50 = 0 THEN 'failed'
                          ELSE 'accepted' END AS state) s;
INSERT INTO customers (slot, customer_id, name, email, updated_at, event_source, event_id)
SELECT slot_of('c-' || n), 'c-' || n, 'Ada Example', n || '@example.com', now(), '/tests', n
FROM generate_series(0, 99999) n;
INSERT INTO consent (slot, customer_id, channel, state, reason, changed_at)
SELECT slot, customer_id, 'sms', 'out', 'customer.updated', now() FROM customers;
ANALYZE;
"""


@pytest.fixture(scope="module")
def dsn(stack: StackStatus, stack_folder: Path, settings_file: Path) -> Iterator[str]:
    """One shard's database, large."""
    name = "plans_test"
    target = elsewhere(stack.shards[0].primary_dsn, name)
    settings = load_settings(settings_file, {})
    primary = elsewhere(settings.shards[0].primary, name)
    only = msgspec.structs.replace(settings.shards[0], primary=primary, replica="")

    async def fill() -> None:
        await migrate_all(msgspec.structs.replace(settings, shards=(only,)))
        await run_on(target, FILL, timeout_s=300)

    with asyncio.Runner() as runner:
        database = spare_databases(stack.shards[:1], stack_folder, name)
        runner.run(database.__aenter__())
        try:
            runner.run(fill())
            yield target
        finally:
            runner.run(database.__aexit__(None, None, None))


@pytest.fixture
async def connection(dsn: str) -> Any:
    """A connection whose changes are rolled back."""
    opened = await asyncpg.connect(dsn, timeout=5)
    transaction = opened.transaction()
    await transaction.start()
    yield opened
    await transaction.rollback()
    await opened.close()


async def parameters(connection: asyncpg.Connection, name: str) -> list[Any]:
    """What the pipeline would pass: a batch of 500, half of it new to the database."""
    orders = await connection.fetch("SELECT slot, order_id FROM orders LIMIT 250 OFFSET 990000")
    slots = [row["slot"] for row in orders] + [n * 16 for n in range(250)]
    ids = [row["order_id"] for row in orders] + [f"new-{n}" for n in range(250)]
    effects = await connection.fetch("SELECT effect_id_of(id, 2) AS id FROM unnest($1::text[]) id", ids)
    mails, claim = [row["id"] for row in effects], uuid4()
    keys = [UUID(int=n) for n in range(500)]
    none, now = [None] * 500, [datetime.now(UTC)] * 500
    receipts = [slots, mails, keys, ["accepted"] * 500, none, none, none, now, none, [False] * 500]
    lately = datetime.now(UTC) - timedelta(seconds=1)
    return {
        "look": [slots, keys, ids],
        "known_orders": [slots, ids],
        "keep_traces": [slots, mails, ["00-trace"] * 500],
        "bring_order_mails_forward": [slots, mails],
        "owe_invoice_mails": [slots, mails, ids, [f"i-{one}" for one in ids], DAY, timedelta(seconds=5)],
        "claim": ["email", 100, claim, timedelta(seconds=60), lately],
        "next_due": ["email", lately],
        "carry_invoices": [slots, mails, ids, [True] * 500],
        "leave_out": [slots[0], ids[0], f"i-{ids[0]}", mails[0]],
        "record_receipts": receipts,
        "late_receipts": receipts,
        "apply_statuses": [
            slots, mails, ["twilio"] * 500, none, ["sent"] * 500, none, now, [3] * 500, ["accepted"] * 500,
            "{}",
        ],
        "take_unknown": ["email", 100, timedelta(seconds=90), timedelta(seconds=60)],
        "conclude": [
            slots, mails, keys, ["pending"] * 500, none, none, none, none, ["not_found"] * 500, none,
            [False] * 500,
        ],
        "unknown_totals": [],
        "release": [claim],
        "expire_leases": [1000, lately],
        "owe_left_behind_invoices": [1000, DAY],
        "read_persons": [slots, [f"c-{n}" for n in range(500)]],
        "order": [slots[0], ids[0]],
        "invoice": [f"i-{ids[0]}"],
        "customer": ["c-500", 21, await connection.fetchval("SELECT slot_of('c-500')")],
        "delete_inbox": [(0, 0), (64, 0), 30 * DAY],
        "delete_outbox": [(0, 0), (64, 0), 30 * DAY],
        "survey_inbox": [(0, 0), (64, 0), 30 * DAY],
        "survey_outbox": [(0, 0), (64, 0), 30 * DAY],
    }[name]  # fmt: skip


def nodes(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield plan
    for child in plan.get("Plans", ()):
        yield from nodes(child)


def access(plan: dict[str, Any]) -> dict[str, set[str]]:
    """How a plan reaches each large table: by which index, or by what kind of scan."""
    found: dict[str, set[str]] = {}
    heaps: list[str] = []
    for node in nodes(plan):
        relation = node.get("Relation Name")
        if relation in BIG and node["Node Type"].startswith("Bitmap Heap"):
            heaps.append(relation)
        elif relation in BIG and "Scan" in node["Node Type"]:
            found.setdefault(relation, set()).add(node.get("Index Name", node["Node Type"]))
        elif node["Node Type"] == "Bitmap Index Scan":
            found.setdefault(heaps[-1], set()).add(node["Index Name"])
    return found


READS = load_statements("reads.sql")
HOT = {**INTAKE, **OUTBOX, **EFFECTS, **CUSTOMERS}
READ = {
    name: READS["answer"].replace("/* middle */", READS[name]) for name in ("order", "invoice", "customer")
}
STATEMENTS = {**HOT, **RETENTION, **READ}


def test_every_statement_has_a_plan_pinned_or_is_known_to_need_none() -> None:
    assert set(HOT) - NOT_PLANNED <= set(EXPECTED)


def check(name: str, plan: dict[str, Any]) -> None:
    found = access(plan)
    assert found
    for table, ways in found.items():
        assert ways <= EXPECTED[name].get(table, set()), f"{name} reaches {table} by {ways}\n{plan}"


async def in_the_long_run(connection: asyncpg.Connection, name: str) -> dict[str, Any]:
    """The plan after so many executions that PostgreSQL has chosen between one for all and one for each."""
    values = await parameters(connection, name)
    statement = await connection.prepare(STATEMENTS[name])
    literals = []
    for value, parameter in zip(values, statement.get_parameters(), strict=True):
        kind = parameter.name + (
            "[]" if parameter.kind == "array" and not parameter.name.endswith("[]") else ""
        )
        literal = await connection.fetchval(f"SELECT quote_nullable($1::{kind}::text)", value)
        literals.append(f"{literal}::{kind}")
    given = f"({', '.join(literals)})" if literals else ""
    await connection.execute(f"PREPARE hot AS {STATEMENTS[name]}")
    for _ in range(7):
        text = await connection.fetchval(f"EXPLAIN (FORMAT JSON) EXECUTE hot{given}")
    await connection.execute("DEALLOCATE hot")
    return json.loads(text)[0]["Plan"]


async def for_these_parameters(
    connection: asyncpg.Connection, name: str, *, analyze: bool = False
) -> dict[str, Any]:
    statement = await connection.prepare(STATEMENTS[name])
    explained = await statement.explain(*await parameters(connection, name), analyze=analyze)
    return explained[0]["Plan"]


@pytest.mark.parametrize("name", EXPECTED)
async def test_each_large_table_is_reached_as_it_should_be(connection: asyncpg.Connection, name: str) -> None:
    check(name, await for_these_parameters(connection, name))
    check(name, await in_the_long_run(connection, name))


@pytest.mark.parametrize("name", EXPECTED)
async def test_no_scan_brings_ten_times_what_was_thought(connection: asyncpg.Connection, name: str) -> None:
    plan = await for_these_parameters(connection, name, analyze=True)
    for node in nodes(plan):
        if node.get("Relation Name") in BIG and "Scan" in node["Node Type"]:
            assert node["Actual Rows"] <= 10 * max(node["Plan Rows"], 100), node


async def test_a_backlog_of_a_million_messages_changes_no_plan(connection: asyncpg.Connection) -> None:
    """Hours without a provider: half of all messages wait."""
    await connection.execute(
        "ALTER TABLE outbox DISABLE TRIGGER trg_outbox_transition; "
        "UPDATE outbox SET state = 'pending' WHERE kind = 'order_email'; ANALYZE outbox",
        timeout=120,
    )
    for name in ("claim", "expire_leases", "record_receipts", "bring_order_mails_forward"):
        check(name, await for_these_parameters(connection, name))
        check(name, await in_the_long_run(connection, name))


async def test_statistics_of_a_quiet_hour_change_no_plan(connection: asyncpg.Connection) -> None:
    """Nothing was open when they were taken: an index of what is open seems to cost nothing."""
    await connection.execute(
        "ALTER TABLE outbox DISABLE TRIGGER trg_outbox_transition; "
        "UPDATE outbox SET state = 'accepted' WHERE state IN ('pending', 'submitting', 'unknown'); "
        "ANALYZE outbox",
        timeout=120,
    )
    for name in ("bring_order_mails_forward", "owe_invoice_mails", "record_receipts", "late_receipts"):
        check(name, await for_these_parameters(connection, name))
        check(name, await in_the_long_run(connection, name))
