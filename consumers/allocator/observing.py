"""Turns what workers say, and what the machine says of itself, into an observation."""

from collections.abc import Iterable, Sequence
from typing import Final, Literal, NamedTuple

import psutil

from consumers.allocator.messages import WorkerWord
from consumers.allocator.worker import Worker
from consumers.topology import WORK_QUEUES
from pipeline.allocation.bounds import Allocation
from pipeline.allocation.observation import Channel, Observation
from pipeline.observability.readings import labelled, total

STALE_S: Final = 5.0
"""A worker that said nothing for so long does not count as running."""
_ASKED_TO_WAIT: Final = ("rate_limited", "retry_after", "circuit_open")
_SLOTS: Final[dict[Literal["sms", "email"], tuple[str, ...]]] = {
    "sms": ("twilio", "twilio_second"),
    "email": ("smtp", "smtp_second"),
}


class _Past(NamedTuple):
    """What was read of one process at the last look: counters only mean something against those."""

    pid: int | None
    at_s: float
    cpu_s: float
    readings: dict[str, float]


class Observer:
    """Mutable state: `_past`, by worker, and `_machine_s`, CPU seconds of the machine at the last look."""

    def __init__(self) -> None:
        self._past: dict[int, _Past] = {}
        self._machine_s = _machine_s()

    def __repr__(self) -> str:
        return f"Observer({sorted(self._past)})"

    def look(
        self, now: float, workers: Sequence[Worker], ready: int | None, given: Allocation
    ) -> Observation:
        """Return how things are and what happened since the last look. `now`: of the workers' clock."""
        running = [worker for worker in workers if now - worker.heard_at_s <= STALE_S]
        spans = [span for worker in running if (span := self._span(worker, now)) is not None]
        words = [worker.word for worker in running if worker.word is not None]
        held = sum(_held(word) for word in words)
        batches = sum(span.gained("batch_events_count") for span in spans)
        writes = sum(span.gained("write_seconds_count") for span in spans)
        return Observation(
            at_s=now,
            running=len(spans),
            ready=ready,
            held=int(held),
            settled_per_s=sum(span.per_s("events_total") + span.per_s("parked_total") for span in spans),
            worker_cpu=sum(span.cpu for span in spans) / max(1, len(spans)),
            machine_cpu=self._machine_cpu(),
            window_used=max((_window_used(words, queue) for queue in WORK_QUEUES), default=0.0),
            lanes=_mean(_lanes(word) for word in words),
            batch_fill=sum(s.gained("batch_events_sum") for s in spans) / max(1.0, batches * given.batch_max),
            write_s=sum(s.gained("write_seconds_sum") for s in spans) / writes if writes else None,
            channels=tuple(_channel(name, words, spans) for name in _SLOTS if _sends(words, name)),
        )

    def _span(self, worker: Worker, now: float) -> "_Span | None":
        """Return what a worker did since the last look; None at the first one of its process."""
        cpu_s, word = worker.cpu_s(), worker.word
        if cpu_s is None or word is None:
            return None
        before = self._past.get(worker.number)
        self._past[worker.number] = _Past(worker.pid, now, cpu_s, word.readings)
        if before is None or before.pid != worker.pid or now <= before.at_s:
            return None
        seconds = now - before.at_s
        return _Span(seconds, (cpu_s - before.cpu_s) / seconds, before.readings, word.readings)

    def _machine_cpu(self) -> float:
        """Return the share of the machine's CPU time that was used since the last look."""
        before, self._machine_s = self._machine_s, _machine_s()
        busy, passed = (now - then for now, then in zip(self._machine_s, before, strict=True))
        return min(1.0, max(0.0, busy / passed)) if passed > 0 else 0.0


class _Span(NamedTuple):
    """One worker between two looks."""

    seconds: float
    cpu: float
    before: dict[str, float]
    after: dict[str, float]

    def gained(self, name: str) -> float:
        return max(0.0, total(self.after, name) - total(self.before, name))

    def per_s(self, name: str) -> float:
        return self.gained(name) / self.seconds

    def held_back(self, channel: str) -> float:
        """How many messages of a channel were given back because of a rate, or because a provider said so."""
        before = labelled(self.before, "held_back_total")
        after = labelled(self.after, "held_back_total")
        keys = [f"{channel},{reason}" for reason in _ASKED_TO_WAIT]
        return sum(after.get(key, 0.0) - before.get(key, 0.0) for key in keys)


def _held(word: WorkerWord) -> float:
    """Events taken from the broker and not settled: a message may carry many."""
    return max(total(word.readings, "buffered_events"), _open(word))


def _open(word: WorkerWord) -> float:
    return total(word.readings, "open_deliveries")


def _window_used(words: Sequence[WorkerWord], queue: str) -> float:
    """Return the share of a queue's window that is unsettled, over all workers. Each queue has its own."""
    window = sum(labelled(word.readings, "prefetch_deliveries").get(queue, 0.0) for word in words)
    unsettled = sum(labelled(word.readings, "open_deliveries").get(queue, 0.0) for word in words)
    return min(1.0, unsettled / window) if window else 0.0


def _lanes(word: WorkerWord) -> float:
    """Batches that wait in the fullest lane of a worker."""
    fullest = max(labelled(word.readings, "lane_events").values(), default=0.0)
    return fullest / word.batch_max if word.batch_max else 0.0


def _mean(values: Iterable[float]) -> float:
    found = list(values)
    return sum(found) / len(found) if found else 0.0


def _sends(words: Iterable[WorkerWord], channel: Literal["sms", "email"]) -> bool:
    """Whether some worker has slots of a channel."""
    return any(slot in labelled(word.readings, "slot_limit") for word in words for slot in _SLOTS[channel])


def _channel(name: Literal["sms", "email"], words: Sequence[WorkerWord], spans: Sequence[_Span]) -> Channel:
    def of_slots(reading: str) -> list[float]:
        return [
            value
            for word in words
            for slot, value in labelled(word.readings, reading).items()
            if slot in _SLOTS[name]
        ]

    waiting = sum(labelled(word.readings, "pool_waiting").get(name, 0.0) for word in words)
    return Channel(
        name=name,
        waiting=int(waiting),
        calls=int(sum(of_slots("slot_in_flight"))),
        limit=int(sum(of_slots("slot_limit"))),
        is_held=any(of_slots("slot_circuit")) or any(span.held_back(name) > 0 for span in spans),
    )


def _machine_s() -> tuple[float, float]:
    """Return the busy CPU seconds of the machine, and all of them."""
    times = psutil.cpu_times()
    idle = times.idle + getattr(times, "iowait", 0.0)
    every = (
        sum(times) - getattr(times, "guest", 0.0) - getattr(times, "guest_nice", 0.0)
    )  # counted in user too
    return every - idle, every
