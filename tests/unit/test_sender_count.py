"""Rates of providers are shared among the processes that send."""

import asyncio

from provider_double import most_in_a_second, sms, world
from virtual_clock import VirtualClock

from pipeline.control.sender_count import SenderCount
from pipeline.errors import StorageUnavailableError
from pipeline.lifecycle import Tasks

ME = "here:1:0.000"


class Board:
    """What the homes would say."""

    def __init__(self) -> None:
        self.senders: set[str] = set()
        self.is_away = False

    async def ids(self, role: str) -> set[str]:
        assert role == "notifications"
        if self.is_away:
            raise StorageUnavailableError("away")
        return self.senders


class Slot:
    def __init__(self) -> None:
        self.got: list[int] = []

    def share_among(self, senders: int) -> None:
        self.got.append(senders)


def counted() -> tuple[SenderCount, Board, Slot, VirtualClock]:
    board, slot, clock = Board(), Slot(), VirtualClock()
    count = SenderCount(
        board, ME, "notifications", [slot], clock=clock, tasks=Tasks(lambda *_crash: None)
    )  # fmt: skip
    return count, board, slot, clock


async def test_others_are_counted_before_anything_is_sent_and_this_process_once() -> None:
    count, board, slot, clock = counted()
    board.senders = {"there:1:0.000", "there:2:0.000"}
    await count.start()
    assert slot.got == [3]
    board.senders = {ME, "there:1:0.000", "there:2:0.000", "there:3:0.000"}
    await clock.pass_by(2.0)
    assert slot.got == [3, 4]
    await count.stop()


async def test_a_home_that_has_forgotten_its_reports_makes_nobody_faster_at_once() -> None:
    count, board, slot, clock = counted()
    board.senders = {ME, "there:1:0.000"}
    await count.start()
    board.senders = set()
    await clock.pass_by(4.0)
    board.senders = {ME, "there:1:0.000"}
    await clock.pass_by(10.0)
    assert slot.got == [2]
    board.senders = {ME}
    await clock.pass_by(6.0)
    assert slot.got == [2, 1]
    await count.stop()


async def test_while_nobody_answers_the_last_count_holds() -> None:
    count, board, slot, clock = counted()
    board.senders = {ME, "there:1:0.000"}
    await count.start()
    board.is_away = True
    await clock.pass_by(60.0)
    assert slot.got == [2]
    await count.stop()


async def test_a_provider_takes_a_part_of_each_rate_also_of_one_that_is_set_later() -> None:
    w = world(only=0.01)
    slot = w.only.slot(rate_per_s=40)
    slot.share_among(4)
    assert slot.rate_per_s == 10
    await w.clock.run(asyncio.gather(*(slot.send(sms(number)) for number in range(5))))
    assert most_in_a_second(w.only.calls) <= 11
    slot.limit_to(concurrency=64, rate_per_s=8)
    assert slot.rate_per_s == 2
    slot.share_among(2)
    assert slot.rate_per_s == 4
    slot.limit_to(concurrency=64, rate_per_s=0.0)
    assert slot.rate_per_s == 20
