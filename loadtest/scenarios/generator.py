"""The load generator, a process of its own: publishes each event at its planned moment, or as soon as may be.

python -m loadtest.scenarios.generator SETTINGS ARRIVALS RUN RESULT

It prints a line `ready`, takes the run's start as a UNIX time from standard input, and from then on prints a
line of progress in JSON twice a second. SIGTERM ends it early. RESULT then holds, for each event: when it
left, and when the broker confirmed it.

It accounts for itself: `late_s` is how late an event left, `blocked_s` how long it waited for the broker to
take more.
"""

import asyncio
import gc
import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

import msgspec
import numpy as np
import uvloop

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.topology import DIRECT_EXCHANGE
from loadtest.scenarios.arrivals import Arrivals, Kind
from loadtest.scenarios.event_bodies import EventBodies, routing_key
from pipeline.errors import BrokerUnavailableError
from pipeline.ingest.content_mode import STRUCTURED_TYPE
from pipeline.settings import AmqpSettings, load_settings

WINDOW = 100_000
_PROGRESS_S = 0.5
_TICK_S = 0.001
_NICE = -10  # only root may
_SETTLE_TIMEOUT_S = 60.0
_REFUSED = float("inf")


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far the generator is. `late_s`: how late the event sent last left."""

    due: int
    sent: int
    confirmed: int
    refused: int
    late_s: float
    blocked_s: float


class TimedPublisher(LeanPublisher):
    """Notes when each message was confirmed, by its tag, as UNIX time; infinity: it was refused."""

    def __init__(self, settings: AmqpSettings, messages: int) -> None:
        super().__init__(settings, "loadtest", WINDOW)
        self.confirmed_at = np.full(messages + 1, np.nan)
        self._lowest = 1

    @property
    def is_blocked(self) -> bool:
        """Whether the next message waits for the broker: it has to confirm, or to read, some before."""
        return not (self._room.is_set() and self.can_write)

    def on_confirm(self, tag: int, *, multiple: bool, confirmed: bool) -> None:
        """Take the broker's answer, and the time of it."""
        at = time.time() if confirmed else _REFUSED
        if multiple:
            passed = self.confirmed_at[self._lowest : tag + 1]
            passed[np.isnan(passed)] = at
            self._lowest = tag + 1
        else:
            self.confirmed_at[tag] = at
        super().on_confirm(tag, multiple=multiple, confirmed=confirmed)


class Generator:
    """Publishes the arrivals of one run. Mutable state: how many so far, and the times."""

    def __init__(self, settings: AmqpSettings, arrivals: Arrivals, run: str) -> None:
        self._arrivals = arrivals
        self._bodies = EventBodies(run)
        self._publisher = TimedPublisher(settings, len(arrivals.at_s))
        self._routes = {kind: route_of(DIRECT_EXCHANGE, routing_key(kind), mandatory=True) for kind in Kind}
        self._properties = property_bytes(content_type=STRUCTURED_TYPE)
        self._sent_at = np.full(len(arrivals.at_s), np.nan)
        self._stopping = False
        self._start = 0.0
        self._due = 0
        self.sent = 0
        self.blocked_s = 0.0

    def stop(self) -> None:
        """End early."""
        self._stopping = True

    async def run(self, start: float) -> None:
        """Publish everything; return when it is confirmed. Raises BrokerUnavailableError."""
        self._start = start
        reporting = asyncio.create_task(self._report())
        try:
            await self._publish()
            await self._publisher.settled(_SETTLE_TIMEOUT_S)
        finally:
            reporting.cancel()
            await asyncio.wait([reporting])
            self._say()

    async def open(self) -> None:
        """Connect. Raises BrokerUnavailableError."""
        await self._publisher.open()

    async def close(self) -> None:
        """Disconnect."""
        await self._publisher.close()

    async def _publish(self) -> None:
        at_s = self._arrivals.at_s
        total = len(at_s)
        while self.sent < total and not self._stopping:
            self._due = int(np.searchsorted(at_s, time.time() - self._start, side="right"))
            while self.sent < self._due and not self._stopping:
                await self._one()
            await asyncio.sleep(_TICK_S)

    async def _one(self) -> None:
        number, arrivals = self.sent, self._arrivals
        kind = Kind(int(arrivals.kind[number]))
        planned = self._planned(number)
        order = int(arrivals.order[number])
        body = self._bodies.body(
            kind,
            order,
            planned,
            with_phone=bool(arrivals.with_phone[order]),
            with_address=bool(arrivals.with_address[order]),
        )
        # What a publish takes besides is ours: a busy machine that lets us wait is no broker that blocks.
        blocked_at = time.time() if self._publisher.is_blocked else None
        await self._publisher.publish(self._routes[kind], self._properties, body)
        self._sent_at[number] = now = time.time()
        if blocked_at is not None:
            self.blocked_s += now - blocked_at
        self.sent += 1

    async def _report(self) -> None:
        while True:
            self._say()
            await asyncio.sleep(_PROGRESS_S)

    def _say(self) -> None:
        last = self.sent - 1
        late_s = float(self._sent_at[last]) - self._planned(last) if self.sent else 0.0
        progress = Progress(
            due=self._due,
            sent=self.sent,
            confirmed=self._publisher.confirmed,
            refused=self._publisher.refused,
            late_s=round(max(0.0, late_s), 4),
            blocked_s=round(self.blocked_s, 3),
        )
        print(msgspec.json.encode(progress).decode(), flush=True)  # noqa: T201  # what the parent reads

    def _planned(self, number: int) -> float:
        return self._start + float(self._arrivals.at_s[number])

    def save(self, path: Path) -> None:
        """Write when each event left and was confirmed, as UNIX times; NaN: it was not."""
        confirmed_at = self._publisher.confirmed_at[1 : self.sent + 1]
        np.savez(
            path,
            sent_at=self._sent_at[: self.sent],
            confirmed_at=np.where(np.isinf(confirmed_at), np.nan, confirmed_at),
            blocked_s=np.array([self.blocked_s]),
        )


async def _main(settings_file: Path, arrivals_file: Path, run: str, result: Path) -> int:
    generator = Generator(load_settings(settings_file).amqp, Arrivals.load(arrivals_file), run)
    await generator.open()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, generator.stop)
    with suppress(PermissionError):
        # On one machine with what it loads it would be late whenever that is busy, and measure less.
        os.nice(_NICE)
    gc.collect()
    gc.freeze()
    print("ready", flush=True)  # noqa: T201  # as above
    start = float(await asyncio.to_thread(sys.stdin.readline) or "nan")
    status = 0
    try:
        await generator.run(start)
    except BrokerUnavailableError as error:
        print(f"loadtest generator: {error}", file=sys.stderr)  # noqa: T201
        status = 1
    finally:
        generator.save(result)
        await generator.close()
    return status


if __name__ == "__main__":
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sys.exit(runner.run(_main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))))
    except BrokerUnavailableError as error:
        print(f"loadtest generator: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(1)
