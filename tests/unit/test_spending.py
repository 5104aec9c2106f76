"""The spend breaker: sums over shards and what is not written yet, limits, and like numbers."""

import asyncio
from collections import Counter
from types import SimpleNamespace

import pytest

from pipeline.clock import SystemClock
from pipeline.errors import HeldBackError, RecipientRefusedError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.countries import Countries, calling_code
from pipeline.notifications.rules.prefix_cap import PrefixCap
from pipeline.notifications.rules.spending import Spending
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.settings import RuleSettings

BERLIN, NEW_YORK, KINGSTON, ALMATY = "+4930901820", "+12125550123", "+18765550123", "+77012345678"


class Turned(SystemClock):
    time_s = 10_000.0

    def monotonic(self) -> float:
        return self.time_s


class Table:
    """A shard's rows, all of the last hour."""

    def __init__(self) -> None:
        self.rows: Counter[str] = Counter()
        self.is_away = False
        self.is_unread = False

    async def add(self, segments) -> None:
        self._answer()
        self.rows.update(segments)

    async def last_hour(self) -> Counter[str]:
        self._answer()
        if self.is_unread:
            raise StorageUnavailableError("a: slow")
        return Counter(self.rows)

    def _answer(self) -> None:
        if self.is_away:
            raise StorageUnavailableError("a: away")


class Shards:
    def __init__(self) -> None:
        self.tables = {"a": Table(), "b": Table()}

    def __iter__(self):
        return iter(SimpleNamespace(name=name, spend=table) for name, table in self.tables.items())

    def __getitem__(self, name: str):
        return SimpleNamespace(name=name, spend=self.tables[name])


def spending(shards: Shards, clock: SystemClock | None = None, **limits: int) -> Spending:
    return Spending(
        shards,
        RuleSettings(**limits),
        metrics=RuleMetrics(MetricRegistry()),
        clock=clock or SystemClock(),
        tasks=Tasks(lambda _name, _error: None),
    )


def code_of(book: Spending, number: str) -> str | None:
    try:
        book.check(number)
    except HeldBackError as error:
        assert error.retry_after_s is not None
        assert 60 <= error.retry_after_s <= 300
        return error.code
    return None


async def test_above_the_limit_everything_waits_until_the_hour_has_passed() -> None:
    shards = Shards()
    book = spending(shards, spend_segments_per_hour=10)
    shards.tables["a"].rows["1"], shards.tables["b"].rows["49"] = 4, 5
    await book.look()
    assert code_of(book, BERLIN) is None
    book.add(BERLIN, 1)  # counts at once, not only when it was written and read
    assert code_of(book, BERLIN) == code_of(book, NEW_YORK) == "spend_total"
    await book.look()
    assert (shards.tables["a"].rows, shards.tables["b"].rows) == ({"1": 4, "49": 1}, {"49": 5})
    assert code_of(book, BERLIN) == "spend_total"
    shards.tables["b"].rows.clear()
    await book.look()
    assert code_of(book, BERLIN) is None


async def test_a_countrys_limit_is_its_own() -> None:
    book = spending(Shards(), spend_segments_per_country_hour=3)
    book.add(BERLIN, 3)
    assert code_of(book, BERLIN) == "spend_country"
    assert code_of(book, NEW_YORK) is None
    await book.look()
    await book.look()
    assert code_of(book, BERLIN) == "spend_country"


async def test_what_a_shard_that_is_away_said_last_counts_on_and_nothing_is_lost() -> None:
    shards = Shards()
    book = spending(shards, spend_segments_per_hour=10)
    shards.tables["a"].rows["1"] = 6
    await book.look()
    for table in shards.tables.values():
        table.is_away = True
    book.add(BERLIN, 3)
    for _ in range(3):
        await book.look()
    assert code_of(book, BERLIN) is None
    book.add(BERLIN, 1)
    assert code_of(book, BERLIN) == "spend_total"
    shards.tables["b"].is_away = False
    await book.look()
    assert shards.tables["b"].rows == {"49": 4}
    assert code_of(book, BERLIN) == "spend_total"


async def test_what_was_written_and_cannot_be_read_counts_once() -> None:
    shards = Shards()
    book = spending(shards, spend_segments_per_hour=4)
    shards.tables["a"].is_unread = True
    book.add(BERLIN, 3)
    for _ in range(3):
        await book.look()
    assert code_of(book, BERLIN) is None
    book.add(BERLIN, 1)
    await book.look()
    assert code_of(book, BERLIN) == "spend_total"
    shards.tables["a"].is_unread = False
    await book.look()
    assert "4 segments" in repr(book)


async def test_without_limits_no_shard_is_asked_and_nothing_waits() -> None:
    shards = Shards()
    for table in shards.tables.values():
        table.is_away = True
    book = spending(shards)
    await book.start()
    book.add(BERLIN, 1_000_000)
    await book.drain()
    assert code_of(book, BERLIN) is None
    assert "0 segments" in repr(book)


async def test_a_drain_writes_what_is_not_written_yet() -> None:
    shards = Shards()
    book = spending(shards, spend_segments_per_hour=100)
    book.add(BERLIN, 2)
    await book.drain()
    assert shards.tables["a"].rows == {"49": 2}


async def test_a_drain_during_a_write_loses_nothing() -> None:
    class Slow(Table):
        was_asked = asyncio.Event()

        async def add(self, segments) -> None:
            if not self.was_asked.is_set():
                self.was_asked.set()
                await asyncio.Event().wait()
            await super().add(segments)

    shards = Shards()
    book = spending(shards, spend_segments_per_hour=100)
    shards.tables["a"] = Slow()
    book.add(BERLIN, 3)
    writing = asyncio.create_task(book.look())
    await Slow.was_asked.wait()
    writing.cancel()
    await asyncio.wait([writing])
    await book.drain()
    assert shards.tables["a"].rows == {"49": 3}


def test_like_numbers_share_a_cap_for_about_an_hour() -> None:
    clock = Turned()
    clock.time_s = 3600.0 * 10
    cap = PrefixCap(10, clock)
    for last in range(10):
        assert not cap.is_reached(f"+7701234567{last}")
        cap.add(f"+7701234567{last}", 1)
    assert cap.is_reached("+77012349999")
    assert not cap.is_reached("+77012359999")
    clock.time_s += 3600.0  # all of it counts still, then less and less
    assert cap.is_reached("+77012349999")
    clock.time_s += 360.0
    assert not cap.is_reached("+77012349999")
    cap.add("+77012349999", 1)
    assert cap.is_reached("+77012349999")
    clock.time_s += 7200.0
    assert not cap.is_reached("+77012349999")


def test_like_numbers_are_counted_in_bounded_memory() -> None:
    cap = PrefixCap(1, Turned(), prefixes_max=3)
    for number in range(1000):
        cap.add(f"+49{number:05}0000", 1)
    assert repr(cap) == "PrefixCap(3 prefixes)"
    assert cap.is_reached("+49009990000")


@pytest.mark.parametrize(
    ("number", "code"),
    [(BERLIN, "49"), (NEW_YORK, "1"), (ALMATY, "7"), ("+35312345678", "353"), ("+999123456", ""), ("+", "")],
)
def test_calling_codes(number: str, code: str) -> None:
    assert calling_code(number) == code


@pytest.mark.parametrize(
    ("allowed", "numbers"),
    [
        ((), {BERLIN, NEW_YORK, KINGSTON, ALMATY, "+883510000000"}),
        (("US",), {NEW_YORK}),
        (("JM", "DE"), {BERLIN, KINGSTON}),
        (("RU",), set()),
        (("KZ",), {ALMATY}),
        (("001",), {"+883510000000"}),
    ],
)
def test_countries_that_share_a_calling_code_are_told_apart(allowed, numbers) -> None:
    countries = Countries(allowed)

    def is_allowed(number: str) -> bool:
        try:
            countries.check(number)
        except RecipientRefusedError as error:
            assert error.code == "country"
            return False
        return True

    everywhere = {BERLIN, NEW_YORK, KINGSTON, ALMATY, "+883510000000"}
    assert {number for number in everywhere if is_allowed(number)} == numbers
