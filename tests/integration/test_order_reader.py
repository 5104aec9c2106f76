"""Reads from primary or replica on real pairs: who answers, and that no answer is ever stale."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from reading import Proxies, Writer, held_back, pair_of, proxies, reader_of, role
from real_stack import Bench

from loadtest.slow_proxy import Behaviour
from pipeline.errors import (
    StorageRejectedError,
    StorageUnavailableError,
)
from pipeline.reading.consistency import Consistency, Mode, Token
from pipeline.reading.order_reader import OrderReader
from pipeline.settings import Settings
from stack.postgres import Pair

pytestmark = pytest.mark.integration

ANY, SESSION = Consistency.ANY, Consistency.SESSION
SHARD = "shard0"


@pytest.fixture
def pair(bench: Bench, stack_folder: Path) -> Pair:
    return pair_of(stack_folder, SHARD)


@pytest.fixture
def writer(bench: Bench) -> Writer:
    return Writer(bench)


@pytest.fixture
async def reader(bench: Bench, settings: Settings) -> AsyncIterator[OrderReader]:
    async with reader_of(settings) as opened:
        yield opened


@pytest.fixture
async def proxied(bench: Bench, settings: Settings) -> AsyncIterator[Proxies]:
    async with proxies(settings) as both:
        yield both


# --- finding ------------------------------------------------------------------------------------------


async def test_an_order_is_found_whole_on_either_server(reader: OrderReader, writer: Writer) -> None:
    name = writer.name()
    await writer.order(name)
    await writer.invoice(name, "inv-1")
    on = {mode: await reader.order(name, mode=mode) for mode in Mode}
    assert on[Mode.PRIMARY].served[0].role == "primary"
    assert on[Mode.REPLICA].served[0].role == "replica"
    assert all(answer.value == on[Mode.PRIMARY].value for answer in on.values())
    view = on[Mode.REPLICA].value
    assert view.order is not None
    assert (view.order.total, view.order.customer.email) == ("74.4000", "ada@example.com")
    assert [message.kind for message in view.messages] == ["order_sms", "order_email"]
    assert [(invoice.invoice_id, invoice.document_bytes) for invoice in view.invoices] == [("inv-1", 3)]


async def test_what_is_not_there_is_said_to_be_empty(reader: OrderReader) -> None:
    answer = await reader.order("nobody")
    assert answer.value.is_empty
    assert (await reader.invoice("nobody")).value == []
    assert (await reader.customer("nobody")).value.is_empty


async def test_an_id_that_no_database_takes_is_refused(reader: OrderReader) -> None:
    with pytest.raises(StorageRejectedError):
        await reader.order("nul\0")


async def test_invoices_and_customers_are_found_over_all_shards(reader: OrderReader, writer: Writer) -> None:
    names = [*writer.names("shard0", 2), *writer.names("shard1", 2)]
    for day, name in enumerate(names, start=1):
        await writer.order(name, "c-7", at=f"2026-11-0{day}")
        await writer.invoice(name, f"inv-{name}")
    customer = await reader.customer("c-7", limit=3)
    assert [order.order_id for order in customer.value.orders] == names[:0:-1]
    assert customer.value.more
    assert not (await reader.customer("c-7", limit=4)).value.more
    assert customer.value.person is None
    await writer.person("c-7")
    known = (await reader.customer("c-7")).value
    assert known.person is not None
    assert (known.person.email, known.opted_out) == ("grace@example.com", ["sms"])
    [found] = (await reader.invoice(f"inv-{names[3]}")).value
    assert found.order_id == names[3]
    [same] = (await reader.invoice(f"inv-{names[3]}", names[3])).value
    assert same == found
    assert (await reader.invoice(f"inv-{names[3]}", names[0])).value == []
    assert [served.shard for served in customer.served] == ["shard0", "shard1"]


# --- never stale --------------------------------------------------------------------------------------


async def test_a_replica_that_holds_back_what_it_received_does_not_answer(
    reader: OrderReader, writer: Writer, pair: Pair
) -> None:
    old, new = writer.names(SHARD, 2)
    await writer.order(old)
    assert await role(reader, old, Mode.REPLICA) == "replica"
    with held_back(pair):
        await writer.order(new)
        stale = await reader.order(new, mode=Mode.REPLICA, consistency=ANY)
        assert (stale.value.is_empty, stale.served[0].role) == (True, "replica")
        for mode in Mode:
            assert await role(reader, new, mode) == "primary"
    assert await role(reader, new, Mode.REPLICA) == "replica"


async def test_a_changed_message_is_not_shown_as_it_was(
    reader: OrderReader, writer: Writer, pair: Pair
) -> None:
    name = writer.name()
    await writer.order(name)
    await reader.order(name)
    with held_back(pair):
        await writer.run(SHARD, "UPDATE outbox SET state = 'accepted' WHERE order_id = $1", name)
        for mode in Mode:
            view = (await reader.order(name, mode=mode)).value
            assert {message.state for message in view.messages} == {"accepted"}


async def test_a_token_lets_a_replica_answer_that_has_just_that(
    reader: OrderReader, writer: Writer, pair: Pair
) -> None:
    mine, later = writer.names(SHARD, 2)
    await writer.order(mine)
    token = await reader.token(mine)
    assert token.shard == SHARD
    assert await role(reader, mine, Mode.REPLICA, consistency=SESSION, after=[token]) == "replica"
    with held_back(pair):
        await writer.order(later)
        behind = await reader.order(mine, mode=Mode.REPLICA, consistency=SESSION, after=[token])
        assert behind.served[0].role == "replica"
        newer = await reader.token(later)
        assert newer.lsn > token.lsn
        assert await role(reader, later, Mode.REPLICA, consistency=SESSION, after=[newer]) == "primary"
        elsewhere = Token("shard1", newer.timeline, newer.lsn)
        assert await role(reader, later, Mode.REPLICA, consistency=SESSION, after=[elsewhere]) == "primary"


async def test_a_replica_may_catch_up_within_its_time(
    settings: Settings, bench: Bench, writer: Writer, pair: Pair
) -> None:
    name = writer.name()
    async with reader_of(settings, catch_up_ms=10_000, patience_ms=10_000, timeout_s=10) as patient:
        await patient.order("warm", mode=Mode.REPLICA)
        with held_back(pair):
            await writer.order(name)
            reading = asyncio.create_task(role(patient, name, Mode.REPLICA))
            await asyncio.sleep(0.05)
            assert not reading.done()
        assert await reading == "replica"


async def test_a_replica_is_asked_where_it_stands_before_it_is_asked_for_data(
    proxied: Proxies, writer: Writer, pair: Pair, bench: Bench
) -> None:
    """It catches up between two of its answers: the data must be from after that, not from before."""
    name = writer.name()
    async with reader_of(proxied.settings, catch_up_ms=10_000, patience_ms=10_000, timeout_s=10) as reader:
        await reader.order("warm", mode=Mode.REPLICA)
        with held_back(pair):
            await writer.order(name)
            proxied.replica.stall()
            reading = asyncio.create_task(role(reader, name, Mode.REPLICA))
            await bench.until_true(lambda: _holds(proxied))
        await bench.until(lambda: _is_on_replica(bench, name), "the order is on the replica")
        proxied.replica.flow()
        assert await reading == "replica"


async def _holds(proxied: Proxies) -> bool:
    return proxied.replica.held > 0


async def test_answers_go_on_from_tokens_without_going_back(
    reader: OrderReader, writer: Writer, pair: Pair, bench: Bench
) -> None:
    """A commit is on the replica, and shown there, before the primary has heard of it and shows it itself."""
    name = writer.name()
    await reader.order(name)
    with waiting_for(pair, f"FIRST 2 ({SHARD}_replica, a_ghost)"):
        writing = asyncio.create_task(writer.order(name))
        await bench.until(lambda: _is_on_replica(bench, name), "the order is on the replica")
        ahead = await reader.order(name, mode=Mode.REPLICA)
        assert (ahead.value.is_empty, ahead.served[0].role) == (False, "replica")
        assert (await reader.order(name, mode=Mode.PRIMARY)).value.is_empty
        with pytest.raises(StorageUnavailableError, match="what the replica showed"):
            await reader.order(name, mode=Mode.PRIMARY, consistency=SESSION, after=ahead.tokens)
        again = await reader.order(name, mode=Mode.RACE, consistency=SESSION, after=ahead.tokens)
        assert again.served[0].role == "replica"
    await writing
    assert await role(reader, name, Mode.PRIMARY, consistency=SESSION, after=ahead.tokens) == "primary"


@contextmanager
def waiting_for(pair: Pair, names: str) -> Iterator[None]:
    """Let commits wait for other servers than the stack's settings say."""
    pair.sql("primary", f"ALTER SYSTEM SET synchronous_standby_names = '{names}'", "SELECT pg_reload_conf()")
    try:
        yield
    finally:
        pair.sql("primary", "ALTER SYSTEM RESET synchronous_standby_names", "SELECT pg_reload_conf()")


async def _is_on_replica(bench: Bench, name: str) -> bool:
    return bool(await bench.rows("SELECT FROM orders WHERE order_id = $1", name, replica=True))


async def test_a_replica_that_commits_do_not_wait_for_cannot_vouch_for_itself(
    settings: Settings, writer: Writer, pair: Pair, bench: Bench
) -> None:
    """It has replayed all that it has received, and has not received what was acknowledged."""
    old, new = writer.names(SHARD, 2)
    await writer.order(old)
    with waiting_for(pair, ""):
        await bench.until_true(lambda: _is_asynchronous(bench))
        async with reader_of(settings) as reader:
            # Asked for by name, it answers up to where the primary stands.
            assert await role(reader, old, Mode.REPLICA) == "replica"
            assert reader.pairs[SHARD].survey.synchronous is False
            with receiving_nothing(pair):
                await writer.order(new)
                for mode in Mode:
                    assert await role(reader, new, mode) == "primary"
    await bench.until_true(lambda: _is_synchronous(bench))


@contextmanager
def receiving_nothing(pair: Pair) -> Iterator[None]:
    receiver = psutil.Process(int(pair.sql("replica", "SELECT pid FROM pg_stat_wal_receiver")))
    receiver.suspend()
    try:
        yield
    finally:
        receiver.resume()


async def _is_asynchronous(bench: Bench) -> bool:
    return not await _is_synchronous(bench)


async def _is_synchronous(bench: Bench) -> bool:
    rows = await bench.rows("SELECT sync_state FROM pg_stat_replication", shard=SHARD)
    return any(row["sync_state"] == "sync" for row in rows)


async def test_a_shard_declared_asynchronous_is_answered_by_its_primary(
    proxied: Proxies, writer: Writer
) -> None:
    name = writer.name()
    await writer.order(name)
    proxied.primary.behaviour = Behaviour(slow_share=1.0, delay_s=0.05)
    async with reader_of(proxied.settings, asynchronous_shards=(SHARD,)) as reader:
        assert {await role(reader, name, mode) for mode in (Mode.RACE, Mode.HEDGED)} == {"primary"}
    async with reader_of(proxied.settings) as reader:
        assert await role(reader, name, Mode.RACE) == "replica"
