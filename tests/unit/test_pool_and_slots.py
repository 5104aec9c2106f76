"""The pool together with providers that change their minds: it follows them, and loses nothing."""

import asyncio
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from provider_double import slots_of, sms, world

from pipeline.errors import HeldBackError, OutcomeUnknownError, ProviderError, ThrottledError
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.worker_pool import WorkerPool


def fail(name: str, error: BaseException) -> None:
    pytest.fail(f"{name}: {error}")


class Feed:
    """Claims messages as a relay does, from a heap that held-back ones return to."""

    def __init__(self, w, slots, count: int) -> None:
        self.due = [(w.clock.time, number, 1) for number in range(count)]
        self.settled: dict[int, str] = {}
        self.claimed = 0
        self.most = 0
        self._w = w
        self._slots = slots
        self._pool = WorkerPool("sms", capacity=slots, work=self._work, tasks=Tasks(fail))

    async def _work(self, claim) -> None:
        _, number, attempt = claim
        self.most = max(self.most, self._pool.busy)
        now = self._w.clock.monotonic
        try:
            await self._slots.send(sms(number), attempt)
            self.settled[number] = "accepted"
        except HeldBackError as error:
            self.due.append((now() + (error.retry_after_s or 1.0), number, attempt))
        except ThrottledError as error:
            self.due.append((now() + (error.retry_after_s or 1.0), number, attempt + 1))
        except ProviderError as error:
            self.settled[number] = error.code

    async def run(self, count: int) -> None:
        self._pool.start()
        while len(self.settled) < count:
            places = await self._pool.reserve(100)
            now = self._w.clock.monotonic()
            claims = [message for message in self.due if message[0] <= now][:places]
            self.claimed += len(claims)
            for claim in claims:
                self.due.remove(claim)
                self._pool.put(claim)
            self._pool.give_back(places - len(claims))
            soonest = min((at for at, *_ in self.due), default=now)
            await self._w.clock.sleep(max(0.05, soonest - now))
        await self._pool.finish()


async def test_an_outage_of_20_s_is_waited_out_and_made_up_for() -> None:
    w = world(only=0.1)
    slots = slots_of(w.clock, w.only.slot())
    w.only.answer = lambda _message: None if w.clock.time > 1020 else ThrottledError("unreachable", "")
    feed = Feed(w, slots, 2000)
    await w.clock.run(feed.run(2000))
    assert sorted(w.only.accepted) == sorted(sms(number).effect_id for number in range(2000))
    assert w.clock.time < 1020 + 20  # at 320 calls a second it takes 6 s, and the circuit 8 at most
    outage = [at for at in w.only.calls if at <= 1020]
    assert len(outage) <= 50  # a pool's worth, and single ones
    assert feed.claimed <= 2000 + 300  # nothing goes round and round while it lasts


async def test_as_many_work_at_once_as_the_provider_takes() -> None:
    w = world(only=0.1)
    slots = slots_of(w.clock, slot := w.only.slot())
    w.only.answer = lambda _message: ThrottledError("429", "", 1.0) if slot.in_flight > 20 else None
    feed = Feed(w, slots, 3000)
    await w.clock.run(feed.run(3000))
    refused = len(w.only.calls) - 3000
    assert refused < 0.15 * 3000
    assert feed.most <= slots.ceiling


@settings(max_examples=12, deadline=None)
@given(st.integers(0, 2**32), st.floats(0, 0.5), st.integers(1, 2))
def test_whatever_providers_do_each_message_is_settled_once(seed: int, trouble: float, count: int) -> None:
    asyncio.run(_troubled(Random(seed), trouble, count))


async def _troubled(rng: Random, trouble: float, providers: int) -> None:
    w = world(**{f"p{number}": rng.uniform(0.0, 1.0) for number in range(providers)})
    found = [getattr(w, f"p{number}") for number in range(providers)]
    errors = [
        lambda: ThrottledError("429", "", rng.uniform(0, 5)),
        lambda: ThrottledError("unreachable", ""),
        lambda: OutcomeUnknownError("no_reply", ""),
    ]
    for provider in found:
        provider.answer = lambda _message: rng.choice(errors)() if rng.random() < trouble else None
    slots = slots_of(w.clock, *(one.slot(rate_per_s=rng.choice([0.0, 30.0])) for one in found))
    feed = Feed(w, slots, 100)
    await w.clock.run(feed.run(100))
    accepted = [effect for one in found for effect in one.accepted]
    assert len(accepted) == len(set(accepted)) == list(feed.settled.values()).count("accepted")
    assert len(feed.settled) == 100
    assert all(slot.in_flight == 0 for slot in slots.slots)
