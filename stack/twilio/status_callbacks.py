"""The webhooks an emulated account sends: status callbacks and inbound messages, signed as Twilio signs.

Deliberately like the real ones: at least once, in no guaranteed order. Everything is bounded: callbacks
waiting, posts at a time, attempts, and the time each attempt may take.
"""

import asyncio
import contextlib
import heapq
import time
from collections import Counter
from itertools import count
from typing import Final
from urllib.parse import urlencode

import msgspec

from stack.standin.fault_plan import draw_seconds
from stack.standin.turnstile import Turnstile
from stack.twilio.behaviour import Conduct
from stack.twilio.messages import Message
from stack.twilio.poster import Poster
from stack.twilio.signature import SIGNATURE_HEADER, sign

PENDING_MAX: Final = 500_000
# An answer takes as long as a transaction, under load tenths of a second: at 0.4 s, 64 at a time are 160 a
# second, and the rest would wait here. Fewer than what the composition's nginx takes from one address.
POSTS_AT_A_TIME_MAX: Final = 192
_SERVER_ERROR: Final = 500
_REDIRECT: Final = 300
_HEADERS: Final = {
    "User-Agent": "TwilioProxy/1.1",
    "Accept": "*/*",
    "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
}


class Callback(msgspec.Struct, frozen=True, kw_only=True):
    """One webhook to post about a message."""

    url: str
    params: dict[str, str]
    message: Message


class CallbackSender:
    """Posts callbacks when they are due. Counts every end a callback can come to."""

    def __init__(self, auth_token: str, conduct: Conduct) -> None:
        self._auth_token = auth_token
        self.conduct = conduct
        self.counts: Counter[str] = Counter()
        self.settled = Turnstile()
        self._queue: list[tuple[float, int, Callback]] = []
        self._order = count()
        self._wake = asyncio.Event()
        self._slots = asyncio.Semaphore(POSTS_AT_A_TIME_MAX)
        self._posts: set[asyncio.Task[None]] = set()
        self._poster = Poster()
        self._runner: asyncio.Task[None] | None = None

    @property
    def pending(self) -> int:
        """How many callbacks are waiting or being posted."""
        return len(self._queue) + len(self._posts)

    def put(self, due: float, callback: Callback) -> None:
        """Queue a callback for the UNIX time `due`."""
        if len(self._queue) >= PENDING_MAX:
            self.counts["dropped"] += 1
            return
        self.counts["scheduled"] += 1
        heapq.heappush(self._queue, (due, next(self._order), callback))
        self._wake.set()

    def clear(self) -> None:
        """Forget what is queued and counted."""
        self._queue.clear()
        # Posts under way count for what was cleared: they hold the old counter.
        self.counts = Counter()
        self.settled.reset()

    def start(self) -> None:
        """Begin to post."""
        self._runner = asyncio.create_task(self._run(), name="status-callbacks")

    async def stop(self) -> None:
        """Stop at once; what is still queued is not posted."""
        tasks = [task for task in (self._runner, *self._posts) if task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._poster.close()

    async def _run(self) -> None:
        while True:
            wait_s = self._queue[0][0] - time.time() if self._queue else None
            if wait_s is None or wait_s > 0:
                self._wake.clear()
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(wait_s):
                        await self._wake.wait()
                continue
            await self._slots.acquire()
            if not self._queue:  # cleared in the meantime
                self._slots.release()
                continue
            _, _, callback = heapq.heappop(self._queue)
            task = asyncio.create_task(self._settle(callback))
            self._posts.add(task)
            task.add_done_callback(self._posts.discard)

    async def _settle(self, callback: Callback) -> None:
        counts, message = self.counts, callback.message
        try:
            if message.final in {"canceled", "deleted"}:
                counts["canceled"] += 1
                return
            fault = self.conduct.plan.draw("callback", (message.to,), message.sender or "")
            if fault is None:
                counts[await self._deliver(callback, self._auth_token, counts)] += 1
                return
            counts[f"fault.{fault.action}"] += 1
            await asyncio.sleep(draw_seconds(fault.latency_ms, self.conduct.rng))
            token = f"not {self._auth_token}" if fault.action == "bad_signature" else self._auth_token
            for _ in range({"skip": 0, "twice": 2}.get(fault.action, 1)):
                counts[await self._deliver(callback, token, counts)] += 1
        finally:
            self._slots.release()
            if counts is self.counts:
                self.settled.add()

    async def _deliver(self, callback: Callback, token: str, counts: Counter[str]) -> str:
        settings = self.conduct.behaviour.callbacks
        for attempt in range(settings.attempts):
            if attempt:
                counts["retried"] += 1
                await asyncio.sleep(settings.retry_delay_ms / 1000)
            status = await self._post(callback, token, settings.timeout_ms / 1000)
            if status is not None and status < _SERVER_ERROR:
                return "delivered" if status < _REDIRECT else "refused"
        return "failed"

    async def _post(self, callback: Callback, token: str, timeout_s: float) -> int | None:
        url = callback.url.partition("#")[0]  # the rest overrides how Twilio connects, and is not signed
        headers = {**_HEADERS, SIGNATURE_HEADER: sign(token, url, callback.params)}
        try:
            return await self._poster.post(url, urlencode(callback.params).encode(), headers, timeout_s)
        except (TimeoutError, OSError, ValueError):
            return None
