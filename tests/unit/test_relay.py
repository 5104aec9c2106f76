"""A relay's shards share a pool: one that is away, or does not answer, leaves room for the others."""

import asyncio

from claims import claim
from relays import ClaimSome, Sender, Shard, away, relay
from virtual_clock import VirtualClock, settle

from pipeline.storage.outbox import Claim, Receipt


class Waiting(Sender):
    """Sends when it is told that it may."""

    def __init__(self) -> None:
        super().__init__()
        self.may_send = asyncio.Event()

    async def dispatch(self, claim: Claim) -> Receipt:
        await self.may_send.wait()
        return await super().dispatch(claim)


def some(count: int, number: int, name: str) -> ClaimSome:
    """So many messages on a shard, and never any more."""
    left = count

    async def claim_some(limit: int) -> list[Claim]:
        nonlocal left
        claimed, left = min(limit, left), left - min(limit, left)
        return [claim(shard=name, slot=number)] * claimed

    return claim_some


async def test_a_shard_that_is_away_holds_no_place_while_it_is_waited_for() -> None:
    gone, there = Shard("a", away), Shard("b", some(100, 1, "b"))
    tested = relay(VirtualClock(), gone, there, sender=Waiting())
    await tested.start()
    await settle()
    assert gone.asked == [2]
    assert there.asked == [2, 2]  # all the places there are, although the first shard rests
    await tested.stop()


async def test_a_shard_that_failed_is_asked_for_one_message_until_it_answers() -> None:
    async def hang_after_a_failure(limit: int) -> list[Claim]:
        if len(tried.asked) > 1:
            await answered.wait()
        return await away(limit)

    clock, answered = VirtualClock(), asyncio.Event()
    tried, there = Shard("a", hang_after_a_failure), Shard("b", some(100, 1, "b"))
    tested = relay(clock, tried, there, sender=(sender := Waiting()))
    await tested.start()
    tested.wake("a")
    await clock.pass_by(1.0)
    sender.may_send.set()
    await settle()
    sender.may_send.clear()
    tested.wake("a")
    await clock.pass_by(1.0)
    assert tried.asked == [2, 1]
    assert sum(there.asked) - sender.sent["b"] == 3  # all but the one that the first shard is asked for
    answered.set()
    await tested.stop()


async def test_a_shard_that_does_not_answer_keeps_half_of_the_places_at_most() -> None:
    async def hang(_limit: int) -> list[Claim]:
        await answered.wait()
        return []

    answered = asyncio.Event()
    silent, there = Shard("a", hang), Shard("b", some(100, 1, "b"))
    tested = relay(VirtualClock(), silent, there, sender=Waiting())
    await tested.start()
    await settle()
    assert (silent.asked, there.asked) == ([2], [2])
    answered.set()
    await tested.stop()


async def test_a_shard_that_takes_no_receipts_does_not_hold_up_the_others() -> None:
    """Its primary is gone after it was claimed from: what waits is bounded, and recorded when it is back."""
    stuck, fine = Shard("a", some(100, 0, "a")), Shard("b", some(100, 1, "b"))
    stuck.takes_receipts = False
    clock = VirtualClock()
    tested = relay(clock, stuck, fine, sender=(sender := Sender()))
    await tested.start()
    await clock.pass_by(10.0)
    assert (sender.sent["b"], fine.recorded) == (100, 100)
    assert sender.sent["a"] <= 4 + 4  # twice as many as there are workers, and what was in the pool
    stuck.takes_receipts = True
    await clock.pass_by(10.0)
    assert (sender.sent["a"], stuck.recorded) == (100, 100)
    await tested.stop()


async def test_messages_that_come_close_together_are_claimed_as_a_set() -> None:
    """Each of its own would cost as many round trips as a hundred; the first of all waits for nobody."""
    owed = 0

    async def what_is_owed(limit: int) -> list[Claim]:
        nonlocal owed
        claimed, owed = min(limit, owed), owed - min(limit, owed)
        return [claim(shard="a", slot=0)] * claimed

    clock, sender = VirtualClock(), Sender()
    shard = Shard("a", what_is_owed)
    tested = relay(clock, shard, sender=sender)
    await tested.start()
    await clock.pass_by(1.0)
    asked = len(shard.asked)
    for _ in range(2):
        owed += 1
        tested.wake("a")
        await settle()
    assert (len(shard.asked) - asked, sender.sent["a"]) == (1, 1)
    await clock.pass_by(0.03)
    assert sender.sent["a"] == 2
    await tested.stop()


async def test_a_backlog_is_claimed_without_a_rest() -> None:
    clock, shard = VirtualClock(), Shard("a", some(100, 0, "a"))
    tested = relay(clock, shard, sender=(sender := Sender()))
    await tested.start()
    await clock.pass_by(0.02)
    assert sender.sent["a"] > 4 + 4
    await tested.stop()


async def test_a_drain_waits_for_what_is_not_durable_yet() -> None:
    shard = Shard("a", some(4, 0, "a"))
    shard.takes_receipts = False
    clock = VirtualClock()
    tested = relay(clock, shard)
    await tested.start()
    await clock.pass_by(1.0)
    draining = asyncio.create_task(tested.drain())
    await clock.pass_by(1.0)
    assert not draining.done()
    shard.takes_receipts = True
    await clock.pass_by(10.0)
    assert draining.done()
    assert shard.recorded == 4
    await tested.stop()


async def test_an_end_leaves_nobody_called_when_a_shard_comes() -> None:
    shard = Shard("a", some(0, 0, "a"))
    tested = relay(VirtualClock(), shard)
    await tested.start()
    cluster = tested._cluster
    assert len(cluster.on_added) == 2
    await tested.stop()
    assert cluster.on_added == []


async def test_after_a_pause_everything_is_looked_at_once() -> None:
    """What became visible late, while no shard answered, may lie before the mark."""
    is_away = True

    async def now_and_then(limit: int) -> list[Claim]:
        return await away(limit) if is_away else []

    async def pass_by(seconds: int) -> int:
        for _ in range(seconds):
            tested.wake("a")
            await clock.pass_by(1.0)
        return shard.anew

    shard, clock = Shard("a", now_and_then), VirtualClock()
    tested = relay(clock, shard)
    await tested.start()
    assert await pass_by(14) == 0
    assert await pass_by(14) == 1
    is_away = False
    looked = await pass_by(10)
    assert await pass_by(60) == looked
    await tested.stop()
