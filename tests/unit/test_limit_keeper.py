"""Limits that operators set: which copy counts, when it counts no longer, and what a provider gets of it."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any, Self

import pytest
from hypothesis import given
from hypothesis import strategies as st
from provider_double import most_in_a_second, slots_of, sms, world
from virtual_clock import VirtualClock

from pipeline.control.limit_board import Limits, missing, newest
from pipeline.control.limit_keeper import LimitKeeper
from pipeline.control.limit_ranges import limit_ranges
from pipeline.errors import HeldBackError, StorageUnavailableError
from pipeline.lifecycle import Tasks
from pipeline.settings import SlotSettings
from pipeline.storage.control import LimitOverride

AT = datetime(2026, 11, 21, tzinfo=UTC)
RANGES = limit_ranges({"twilio": SlotSettings(concurrency=64, concurrency_min=4, rate_per_s=50.0)})


def limit(key: str = "twilio.concurrency", value: float | None = 8, **changes: Any) -> LimitOverride:
    return LimitOverride(
        **{"key": key, "value": value, "version": 1, "set_by": "ada", "set_at": AT, **changes}
    )


class Board:
    """What the shards would say: `home` by a look, `all` by a survey."""

    def __init__(self) -> None:
        self.home: list[LimitOverride] = []
        self.others: list[LimitOverride] = []
        self.is_away = False
        self.looks = self.surveys = 0

    async def look(self) -> Limits:
        self.looks += 1
        if self.is_away:
            raise StorageUnavailableError("away")
        return newest([self.home])

    async def survey(self, known: Limits) -> Limits:
        self.surveys += 1
        if self.is_away:
            raise StorageUnavailableError("away")
        found = newest([self.home, self.others, known.values()])
        self.home = list(found.values())
        return found


class Slot:
    name = "twilio"

    def __init__(self) -> None:
        self.got: list[tuple[int, float]] = []

    def limit_to(self, *, concurrency: int, rate_per_s: float) -> None:
        self.got.append((concurrency, rate_per_s))


class Kept:
    """A keeper on a clock that the test turns."""

    def __init__(self) -> None:
        self.clock, self.board, self.slot = VirtualClock(), Board(), Slot()
        self.crashes: list[object] = []
        tasks = Tasks(lambda *crash: self.crashes.append(crash))
        self.keeper = LimitKeeper(self.board, RANGES, [self.slot], clock=self.clock, tasks=tasks)

    async def __aenter__(self) -> Self:
        await self.keeper.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.keeper.stop()
        assert self.crashes == []


async def test_what_is_in_force_counts_before_anything_is_sent_and_a_change_within_two_seconds() -> None:
    kept = Kept()
    kept.board.home = [limit()]
    async with kept:
        assert kept.slot.got == [(8, 0.0)]
        kept.board.home = [limit(value=6, version=2), limit("twilio.rate_per_s", 2.5)]
        await kept.clock.pass_by(2.0)
        assert kept.slot.got == [(8, 0.0), (6, 2.5)]
        kept.board.home = [limit(value=None, version=3), limit("twilio.rate_per_s", None, version=2)]
        await kept.clock.pass_by(2.0)
        assert kept.slot.got[-1] == (64, 0.0)
        assert kept.keeper.applied() == ()


async def test_a_value_out_of_bounds_is_brought_to_the_bound_and_both_are_shown() -> None:
    kept = Kept()
    kept.board.home = [limit(value=1000), limit("twilio.rate_per_s", 0.0), limit("nobody.concurrency", 1)]
    async with kept:
        assert kept.slot.got == [(64, 0.01)]
        shown = {shown.key: (shown.asked, shown.applied, shown.set_by) for shown in kept.keeper.applied()}
        assert shown == {
            "twilio.concurrency": (1000, 64, "ada"),
            "twilio.rate_per_s": (0, 0.01, "ada"),
        }


async def test_it_ends_by_itself_although_no_shard_answers() -> None:
    kept = Kept()
    kept.board.home = [limit(left_s=10.0), limit("twilio.rate_per_s", 5)]
    async with kept:
        kept.board.is_away = True
        await kept.clock.pass_by(9.0)
        assert kept.slot.got == [(8, 5.0)]
        [concurrency, _] = kept.keeper.applied()
        assert concurrency.left_s == pytest.approx(1.0)
        await kept.clock.pass_by(2.0)
        assert kept.slot.got == [(8, 5.0), (64, 5.0)]


async def test_an_older_copy_does_not_come_back_and_is_brought_up_to_date() -> None:
    """The first home was away while the limit was taken off, and is back with what it knew."""
    kept = Kept()
    kept.board.home = [limit(value=None, version=2)]
    async with kept:
        kept.board.home = [limit(value=8, version=1)]
        surveys = kept.board.surveys
        await kept.clock.pass_by(6.0)
        assert kept.slot.got == []
        assert kept.board.surveys == surveys + 1
        assert [copy.version for copy in kept.board.home] == [2]


async def test_a_newer_copy_on_another_shard_is_found_when_the_process_starts() -> None:
    kept = Kept()
    kept.board.home, kept.board.others = [limit(value=8)], [limit(value=16, version=2)]
    async with kept:
        assert kept.slot.got == [(16, 0.0)]


async def test_it_looks_once_a_second_and_everywhere_every_half_minute() -> None:
    async with Kept() as kept:
        await kept.clock.pass_by(60.5)
        assert kept.board.looks == 58
        assert kept.board.surveys == 3


copies = st.lists(
    st.builds(
        limit,
        key=st.sampled_from(["a", "b"]),
        value=st.one_of(st.none(), st.integers(0, 9)),
        version=st.integers(1, 3),
        set_by=st.sampled_from(["ada", "bob"]),
        set_at=st.sampled_from([AT, AT + timedelta(seconds=1)]),
    ),
    max_size=4,
)


@given(st.lists(copies, max_size=4))
def test_shards_that_tell_each_other_come_to_agree(shards: list[list[LimitOverride]]) -> None:
    best = newest(shards)
    for shard in shards:
        told = newest([shard, missing(best, newest([shard]).values())])
        assert {key: found.rank for key, found in told.items()} == {
            key: found.rank for key, found in best.items()
        }
        assert missing(best, told.values()) == []


# --- what a provider makes of it -------------------------------------------------------------------


async def test_fewer_calls_at_once_at_once_and_more_again_when_it_is_lifted() -> None:
    w = world(only=1.0)
    slot = w.only.slot()
    slot.limit_to(concurrency=5, rate_per_s=0.0)
    assert (slot.limit.limit, slot.room()) == (5, 5)
    slot.limit_to(concurrency=2, rate_per_s=0.0)
    assert slot.room() == 4  # the settings' floor
    slot.limit_to(concurrency=64, rate_per_s=0.0)
    for _ in range(100):
        slot.limit.answered(1.0, slot.limit.limit)
    assert slot.room() > 5


async def test_an_operators_rate_comes_on_top_of_the_settings() -> None:
    w = world(only=0.01)
    slot = w.only.slot(rate_per_s=50.0)
    slot.limit_to(concurrency=64, rate_per_s=5.0)
    assert slot.rate_per_s == 5.0

    async def send(count: int) -> None:
        for number in range(count):
            await w.clock.run(slot.send(sms(number)))

    await send(20)
    assert most_in_a_second(w.only.calls) <= 6
    before = len(w.only.calls)
    slot.limit_to(concurrency=64, rate_per_s=20.0)
    await send(60)
    assert 15 <= most_in_a_second(w.only.calls[before + 20 :]) <= 21
    slot.limit_to(concurrency=64, rate_per_s=0.0)
    assert slot.rate_per_s == 50.0


async def test_a_rate_of_next_to_nothing_closes_the_provider_and_lifting_it_opens_it_at_once() -> None:
    w = world(only=0.01)
    slot = w.only.slot()
    slot.limit_to(concurrency=64, rate_per_s=0.01)
    await w.clock.run(slot.send(sms(1)))
    with pytest.raises(HeldBackError):
        await w.clock.run(slot.send(sms(2)))
    assert slot.closed_for_s() > 90
    slot.limit_to(concurrency=64, rate_per_s=0.0)
    assert slot.closed_for_s() == 0


async def test_who_waits_for_a_provider_to_open_sees_within_a_second_that_it_does() -> None:
    w = world(only=0.01)
    slots = slots_of(w.clock, slot := w.only.slot())
    slot.limit_to(concurrency=64, rate_per_s=0.01)
    await w.clock.run(slot.send(sms(1)))
    waiting = asyncio.ensure_future(slots.until_open())
    await w.clock.pass_by(5.0)
    assert not waiting.done()
    slot.limit_to(concurrency=64, rate_per_s=0.0)
    await w.clock.pass_by(1.0)
    assert waiting.done()
