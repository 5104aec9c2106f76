"""Reports, limits and the audit on real shards: what is kept, where, and what the database refuses."""

import asyncio
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from uuid import uuid4

import msgspec
import pytest
from real_stack import Bench

from pipeline.clock import SystemClock
from pipeline.control.audit_log import AuditLog
from pipeline.control.homes import homes
from pipeline.control.limit_board import LimitBoard
from pipeline.control.report_board import ReportBoard
from pipeline.control.reporter import Reporter, this_process
from pipeline.errors import EffectError, StorageRejectedError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.storage.audit import END, Before, Outcome
from pipeline.storage.control import Report
from pipeline.storage.node import Node

pytestmark = pytest.mark.integration

CLOCK = SystemClock()


@pytest.fixture
async def control(bench: Bench) -> AsyncIterator[Bench]:
    await bench.execute("TRUNCATE process_report, limit_override")
    yield bench
    await bench.execute("TRUNCATE process_report, limit_override")


@pytest.fixture
async def without_first(control: Bench) -> Bench:
    """As if the first home could not be reached."""
    away = control.cluster["shard0"]
    away.control._node = away.audit._node = Node(
        "shard0 primary", "postgresql://u@127.0.0.1:1/d", "", control.settings.storage
    )
    return control


# --- reports -----------------------------------------------------------------------------------------


async def test_a_process_is_seen_until_it_ends(control: Bench) -> None:
    board, crashes = ReportBoard(control.cluster, CLOCK), []
    events = {"events.order": 100.0}
    reporter = Reporter(
        board,
        this_process(["orders", "notifications"]),
        counts=lambda: events,
        parts={"epoch": lambda: 7},
        extra={"allocation": lambda: {"workers": 2}},
        clock=CLOCK,
        tasks=Tasks(lambda *crash: crashes.append(crash)),
    )
    await reporter.start()

    async def is_there() -> bool:
        return bool(await board.read())

    await control.until(is_there, "the first report")
    [seen] = await board.read()
    assert seen.process.roles == ("notifications", "orders")
    assert seen.age_s < 2
    assert seen.report is not None
    assert (seen.report.epoch, seen.report.extra) == (7, {"allocation": {"workers": 2}})
    assert seen.report.rss_bytes > 10**7
    await reporter.stop()
    assert await board.read() == []
    assert crashes == []


async def test_rates_are_of_the_time_since_the_report_before(control: Bench) -> None:
    counts = {"events.order": 100.0}
    reporter = Reporter(
        ReportBoard(control.cluster, CLOCK),
        this_process([]),
        counts=lambda: counts,
        parts={},
        extra={},
        clock=CLOCK,
        tasks=Tasks(lambda *_crash: None),
    )
    reporter.report()
    began = CLOCK.monotonic()
    counts["events.order"] += 50
    await asyncio.sleep(0.1)
    rate = reporter.report().rates["events.order"]
    assert rate <= 50 / 0.1
    assert rate >= 50 / (CLOCK.monotonic() - began) * 0.9
    assert reporter.report().rates["events.order"] == 0


async def test_who_has_said_nothing_for_ten_minutes_is_forgotten(control: Bench) -> None:
    board = ReportBoard(control.cluster, CLOCK)
    gone, here = this_process(["gone"]), this_process(["here"])
    await board.write(type(gone)("gone", gone.host, 1, gone.started_at, gone.roles), Report())
    await control.execute("UPDATE process_report SET seen_at = now() - interval '11 minutes'")
    await board.write(here, Report())
    assert [seen.process.roles for seen in await board.read()] == [("here",)]


async def test_one_that_slept_for_ten_minutes_is_back_at_once(control: Bench) -> None:
    board, me = ReportBoard(control.cluster, CLOCK), this_process([])
    await board.write(me, Report(epoch=1))
    await control.execute("UPDATE process_report SET seen_at = now() - interval '11 minutes'")
    await board.write(me, Report(epoch=2))
    [seen] = await board.read()
    assert seen.report == Report(epoch=2)


async def test_words_of_another_version_spoil_nothing(control: Bench) -> None:
    board = ReportBoard(control.cluster, CLOCK)
    await board.write(this_process([]), Report(epoch=3))
    await control.execute("""UPDATE process_report SET report = report || '{"newer": [1]}'""")
    [seen] = await board.read()
    assert seen.report == Report(epoch=3)
    await control.execute("""UPDATE process_report SET report = '{"epoch": "three"}'""")
    [seen] = await board.read()
    assert seen.report is None


async def test_of_two_reports_of_a_process_the_later_one_counts(control: Bench) -> None:
    """It has changed homes, and what it said at the first one is still there."""
    board, me = ReportBoard(control.cluster, CLOCK), this_process([])
    for first, second in (("shard0", "shard1"), ("shard1", "shard0")):
        await control.cluster[first].control.report(me, Report(epoch=1))
        await control.cluster[second].control.report(me, Report(epoch=2))
        [seen] = await board.read()
        assert seen.report == Report(epoch=2)


async def test_the_next_home_takes_the_reports_while_the_first_is_away(without_first: Bench) -> None:
    board = ReportBoard(without_first.cluster, CLOCK)
    assert [home.name for home in homes(without_first.cluster)] == ["shard0", "shard1"]
    assert await board.write(this_process([]), Report(epoch=5)) == "shard1"
    [seen] = await board.read()
    assert seen.report == Report(epoch=5)


# --- limits ------------------------------------------------------------------------------------------


async def test_a_limit_is_on_every_home_and_the_latest_word_counts(control: Bench) -> None:
    board = LimitBoard(control.cluster, CLOCK)
    assert await board.survey() == {}
    written = await board.set("twilio.concurrency", 8, by="ada")
    assert (written.homes, written.away) == (("shard0", "shard1"), ())
    await board.set("twilio.concurrency", 12.5, by="bob", for_s=60)
    for found in (await board.look(), await board.survey()):
        limit = found["twilio.concurrency"]
        assert (limit.value, limit.version, limit.set_by, limit.counts) == (12.5, 2, "bob", True)
        assert limit.left_s is not None
        assert 55 < limit.left_s <= 60
    await board.remove("twilio.concurrency", by="ada")
    assert [limit.counts for limit in (await board.survey()).values()] == [False]
    rows = await control.rows("SELECT value, version FROM limit_override")
    assert rows == [{"value": None, "version": 3}] * 2


async def test_a_copy_never_replaces_a_newer_one(control: Bench) -> None:
    board, table = LimitBoard(control.cluster, CLOCK), control.cluster["shard0"].control
    first = (await board.set("twilio.concurrency", 8, by="bob")).limit
    second = (await board.set("twilio.concurrency", 9, by="ada")).limit
    at_once = msgspec.structs.replace(second, set_by="bob", value=10)  # by another, in the same moment
    for copy, value in ((first, 9), (at_once, 10), (second, 10)):
        await table.write_limits([copy])
        [limit] = await table.limits()
        assert limit.value == value


async def test_its_time_is_over_by_the_databases_clock(control: Bench) -> None:
    board = LimitBoard(control.cluster, CLOCK)
    await board.set("twilio.concurrency", 8, by="ada", for_s=60)
    await control.execute("UPDATE limit_override SET expires_at = now() - interval '1 second'")
    [limit] = (await board.look()).values()
    assert not limit.counts


async def test_who_sets_it_may_have_a_wrong_clock(control: Bench) -> None:
    class Slow(SystemClock):
        def now(self) -> datetime:
            return super().now() - timedelta(hours=1)

    board = LimitBoard(control.cluster, Slow())
    await board.set("twilio.concurrency", 4, by="ada", for_s=60)
    [limit] = (await board.survey()).values()
    assert limit.counts
    assert 50 < (limit.left_s or 0) <= 60


async def test_a_home_that_was_away_is_brought_up_to_date_and_brings_nothing_back(control: Bench) -> None:
    board = LimitBoard(control.cluster, CLOCK)
    await board.set("twilio.concurrency", 8, by="ada")
    away = control.cluster["shard0"].control
    node = away._node
    away._node = Node("shard0 primary", "postgresql://u@127.0.0.1:1/d", "", control.settings.storage)
    written = await board.remove("twilio.concurrency", by="ada")
    assert (written.homes, written.away) == (("shard1",), ("shard0",))
    away._node = node
    assert [limit.value for limit in (await board.look()).values()] == [8]  # it does not know better
    assert [limit.value for limit in (await board.survey()).values()] == [None]
    assert [limit.value for limit in (await board.look()).values()] == [None]


async def test_a_limit_known_to_a_shard_that_is_no_home_any_more_is_not_lost(control: Bench) -> None:
    """Three shards with lower names have come: the process that starts then still finds it."""
    board = LimitBoard(control.cluster, CLOCK)
    await board.set("twilio.concurrency", 8, by="ada")
    connection = "DELETE FROM limit_override"
    async with control.cluster["shard0"].primary.connection() as primary:
        await primary.execute(connection)
    assert await board.look() == {}
    assert [limit.value for limit in (await board.survey()).values()] == [8]
    assert [limit.value for limit in (await board.look()).values()] == [8]


async def test_without_any_home_nothing_is_set(control: Bench) -> None:
    board = LimitBoard(control.cluster, CLOCK)
    for shard in control.cluster:
        shard.control._node = Node(
            shard.primary.name, "postgresql://u@127.0.0.1:1/d", "", control.settings.storage
        )
    with pytest.raises(StorageUnavailableError):
        await board.set("twilio.concurrency", 8, by="ada")


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
async def test_no_number_that_is_none_gets_into_the_table(control: Bench, value: float) -> None:
    shard = control.cluster["shard0"]
    limit = (await LimitBoard(control.cluster, CLOCK).set("a.b", 1, by="ada")).limit
    bad = type(limit)(key="c.d", value=value, version=1, set_by="ada", set_at=limit.set_at)
    with pytest.raises(StorageRejectedError):
        await shard.control.write_limits([bad])


# --- the audit ---------------------------------------------------------------------------------------


async def test_what_is_done_is_on_record_before_and_after(control: Bench) -> None:
    audit, who = AuditLog(control.cluster, CLOCK), f"ada-{uuid4().hex}"
    async with audit.action(who, "limits.set", "twilio.concurrency", "to 8") as action:
        [begun] = await audit.entries(10, actor=who)
        assert (begun.outcome, begun.detail, begun.target) == (Outcome.BEGUN, "to 8", "twilio.concurrency")
        assert begun.epoch == control.cluster.shard_map.epoch
        action.detail = "on shard0, shard1"
    done, begun = await audit.entries(10, actor=who)
    assert (done.outcome, done.detail) == (Outcome.DONE, "on shard0, shard1")
    assert done.action_id == begun.action_id == action.action_id
    with pytest.raises(EffectError):
        async with audit.action(who, "effects.resolve", "e-1"):
            raise EffectError("it has changed")
    with pytest.raises(StorageUnavailableError):
        async with audit.action(who, "effects.resolve", "e-2"):
            raise StorageUnavailableError("away")
    found = await audit.entries(10, actor=who, what="effects.resolve")
    assert [(entry.target, entry.outcome, entry.detail) for entry in found] == [
        ("e-2", "failed", "StorageUnavailableError"),
        ("e-2", "begun", ""),
        ("e-1", "refused", "EffectError"),
        ("e-1", "begun", ""),
    ]


async def test_it_is_read_page_by_page_each_entry_once(control: Bench) -> None:
    audit, who = AuditLog(control.cluster, CLOCK), f"ada-{uuid4().hex}"
    for number in range(5):
        async with audit.action(who, "limits.set", str(number)):
            pass
    everything = await audit.entries(100, actor=who)
    assert len(everything) == 10
    paged, before = [], END
    while page := await audit.entries(3, before=before, actor=who):
        paged += page
        before = Before(page[-1].at, page[-1].entry_id)
    assert paged == everything


async def test_a_home_that_is_away_has_no_entry_and_none_is_lost(without_first: Bench) -> None:
    audit, who = AuditLog(without_first.cluster, CLOCK), f"ada-{uuid4().hex}"
    async with audit.action(who, "limits.set", "x"):
        pass
    assert len(await audit.entries(10, actor=who)) == 2
    rows = await without_first.rows("SELECT 1 FROM audit WHERE actor = $1", who, shard="shard0")
    assert rows == []


async def test_nothing_is_done_when_it_cannot_be_recorded(control: Bench) -> None:
    for shard in control.cluster:
        shard.audit._node = Node(
            shard.primary.name, "postgresql://u@127.0.0.1:1/d", "", control.settings.storage
        )
    done = False
    with pytest.raises(StorageUnavailableError):
        async with AuditLog(control.cluster, CLOCK).action("ada", "limits.set", "x"):
            done = True
    assert not done


async def test_texts_that_no_database_takes_are_cut_to_what_it_takes(control: Bench) -> None:
    audit, who = AuditLog(control.cluster, CLOCK), f"ada-{uuid4().hex}"
    async with audit.action(who, "limits.set", "ä" * 500 + "\0\ud800", "x" * 5000):
        pass
    entry = (await audit.entries(10, actor=who))[-1]
    assert entry.target == "ä" * 200
    assert len(entry.detail) == 2000


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET actor = 'nobody'",
        "DELETE FROM audit",
        "TRUNCATE audit",
        "SET LOCAL session_replication_role = replica; DELETE FROM audit",
    ],
)
async def test_the_database_changes_and_deletes_nothing_of_it(control: Bench, change: str) -> None:
    audit = AuditLog(control.cluster, CLOCK)
    async with audit.action("ada", "limits.set", "x"):
        pass
    before = await audit.entries(1000)
    # Who may not act as replication is told so; who may is stopped all the same.
    with pytest.raises(Exception, match=r"nothing is changed or deleted here|permission denied to set"):
        await control.execute(change)
    assert await audit.entries(1000) == before
    assert before[0].at - before[-1].at >= timedelta(0)


async def test_reports_are_unlogged_and_the_rest_is_not(control: Bench) -> None:
    rows = await control.rows(
        "SELECT relname, relpersistence::text AS kind FROM pg_class WHERE relname = ANY ($1)",
        ["process_report", "limit_override", "audit"],
    )
    assert {row["relname"]: row["kind"] for row in rows} == {
        "process_report": "u",
        "limit_override": "p",
        "audit": "p",
    }
