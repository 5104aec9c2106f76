"""Status words on their way into the ledger: gathered for a moment, applied as sets where their slots are."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple

import structlog

from pipeline.clock import Clock
from pipeline.errors import BusyError, PostorderError
from pipeline.lifecycle import Tasks
from pipeline.storage.cluster import Cluster
from pipeline.storage.effects import ProviderStatus
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_SET_MAX = 500
_MOVING_S = 0.02  # a slot is nobody's for a moment while it moves


class _Waiting(NamedTuple):
    word: ProviderStatus
    done: "asyncio.Future[None]"


Apply = Callable[[str, Sequence[ProviderStatus]], Awaitable[frozenset[int]]]
"""Applies words on a shard, durably; returns the slots it does not own. Raises PostorderError."""


class StatusBook:
    """Applies status words. A word of which nobody knows yet whether it is durable has its caller waiting.

    Nothing is repeated here but after a move: who cannot be answered in time is told so, and the provider
    comes again. Mutable state: `_open`, by shard.
    """

    name = "status book"

    def __init__(
        self,
        cluster: Cluster,
        apply: Apply,
        *,
        gather_s: float,
        waiting_max: int,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._cluster = cluster
        self._apply = apply
        self._gather_s = gather_s
        self._waiting_max = waiting_max
        self._clock = clock
        self._tasks = tasks
        self._open: dict[str, list[_Waiting]] = {}
        self._some: dict[str, asyncio.Event] = {}
        self.waiting = 0

    def __repr__(self) -> str:
        return f"StatusBook({self.waiting} waiting)"

    async def start(self) -> None:
        """Start an applying task for each shard."""
        for shard in self._cluster:
            self._add(shard)
        self._cluster.on_added.append(self._add)

    async def drain(self) -> None:
        """Do nothing: whoever waits for a word has finished before."""

    async def stop(self) -> None:
        """End; who still waits is told that nothing is certain."""
        if self._add in self._cluster.on_added:
            self._cluster.on_added.remove(self._add)
        await self._tasks.cancel()
        for waiting in [one for several in self._open.values() for one in several]:
            _answer(waiting, BusyError("the program ends"))
        self._open.clear()

    def _add(self, shard: Shard) -> None:
        self._open[shard.name] = []
        self._some[shard.name] = asyncio.Event()
        self._tasks.start(self._apply_to(shard.name), f"status words {shard.name}")

    async def apply(self, word: ProviderStatus) -> None:
        """Apply a word; return when it is durable.

        Raises BusyError when too many wait, and what the storage raises when it cannot be used.
        """
        if self.waiting >= self._waiting_max:
            raise BusyError(f"{self.waiting} status words wait already")
        waiting = _Waiting(word, asyncio.get_running_loop().create_future())
        self.waiting += 1
        try:
            self._put(waiting)
            await waiting.done
        finally:
            self.waiting -= 1

    def _put(self, waiting: _Waiting) -> None:
        shard = self._cluster.router.shard_of(waiting.word.slot)
        self._open[shard].append(waiting)
        self._some[shard].set()

    async def _apply_to(self, shard: str) -> None:
        while True:
            await self._some[shard].wait()
            await self._clock.sleep(self._gather_s)
            batch, self._open[shard] = _next_set(self._open[shard])
            if not self._open[shard]:
                self._some[shard].clear()
            if batch:
                await self._apply_set(shard, batch)

    async def _apply_set(self, shard: str, batch: dict[ProviderStatus, list[_Waiting]]) -> None:
        try:
            moved = await self._apply(shard, list(batch))
        except PostorderError as error:
            log.warning("statuses.not_applied", shard=shard, words=len(batch), error=str(error))
            for several in batch.values():
                for waiting in several:
                    _answer(waiting, error)
            return
        homeless = []
        for word, several in batch.items():
            if word.slot in moved:
                homeless += several
            else:
                for waiting in several:
                    _answer(waiting, None)
        if homeless:
            self._tasks.start(self._follow(homeless), "status words of moved slots")

    async def _follow(self, homeless: list[_Waiting]) -> None:
        """Send words after their slots."""
        await self._cluster.refresh()
        await self._clock.sleep(_MOVING_S)
        for waiting in homeless:
            self._put(waiting)


def _next_set(waiting: list[_Waiting]) -> tuple[dict[ProviderStatus, list[_Waiting]], list[_Waiting]]:
    """Return the next set, and what waits on. A word that is said several times goes once."""
    batch: dict[ProviderStatus, list[_Waiting]] = {}
    said: dict[tuple[object, ...], list[_Waiting]] = {}
    later = []
    for one in waiting:
        if one.done.done():  # its caller has given up
            continue
        key = one.word[:-1]  # all but the time
        if key in said:
            said[key].append(one)
        elif len(batch) == _SET_MAX:
            later.append(one)
        else:
            batch[one.word] = said[key] = [one]
    return batch, later


def _answer(waiting: _Waiting, error: PostorderError | None) -> None:
    if waiting.done.done():
        return
    if error is None:
        waiting.done.set_result(None)
    else:
        waiting.done.set_exception(error)
