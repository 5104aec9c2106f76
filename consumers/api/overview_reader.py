"""Reads the overview: every part by itself, so that what is away leaves a gap and not a blank page."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, TypeVar

import msgspec

from consumers.api.fresh import Fresh
from consumers.api.overview import Overview, Problem, ShardNow, UnknownNow
from consumers.api.overview_parts import kpis_of, limits_of, pools_of, processes_of, stages_of
from consumers.shards_report import MoveView, moves_of
from consumers.status import read_queues
from consumers.topology import QueueDepth
from pipeline.clock import Clock
from pipeline.control.limit_board import LimitBoard, Limits
from pipeline.control.report_board import CURRENT_S, ReportBoard
from pipeline.errors import PostorderError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.control import ProcessReport
from pipeline.storage.glance import Glance, GlanceReader
from pipeline.storage.map_table import StoredMap
from pipeline.storage.partial import within
from pipeline.storage.shard import Shard

T = TypeVar("T")

AGE_S: Final = 1.0
_SLOW_AGE_S: Final = 5.0
_TIMEOUT_S: Final = 2.0
_MOVES_S: Final = 1.6  # less: a shard that hangs hides no move that another one knows of


class _Slow(msgspec.Struct, frozen=True):
    """What is read every five seconds. By shard: its own map, and deliveries held in quarantine."""

    queues: list[QueueDepth]
    moves: list[MoveView]
    maps: dict[str, StoredMap]
    held: dict[str, int]
    problems: list[Problem]


class OverviewReader:
    """Reads overviews, at most one a second, for all who ask. Mutable state: the last ones, also encoded."""

    def __init__(
        self, settings: Settings, cluster: Cluster, reports: ReportBoard, limits: LimitBoard, clock: Clock
    ) -> None:
        self._settings = settings
        self._cluster = cluster
        self._reports = reports
        self._limits = limits
        self._clock = clock
        self._slow = Fresh(self._read_slow, age_s=_SLOW_AGE_S, clock=clock)
        self._latest = Fresh(self.read, age_s=AGE_S, clock=clock)
        self._encoded: tuple[Overview | None, bytes] = (None, b"")

    async def latest(self) -> Overview:
        """Return the overview, read a second ago at most. Does not raise for anything that is away."""
        return await self._latest.get()

    async def encoded(self) -> bytes:
        """Return the overview as JSON, encoded once for all who ask."""
        overview = await self._latest.get()
        if self._encoded[0] is not overview:
            self._encoded = (overview, msgspec.json.encode(overview))
        return self._encoded[1]

    async def stop(self) -> None:
        """Break off what is being read."""
        await self._latest.stop()
        await self._slow.stop()

    async def read(self) -> Overview:
        """Return how everything is now."""
        problems: list[Problem] = []
        glances, slow, reports, limits = await asyncio.gather(
            self._of_shards(lambda shard: GlanceReader(shard.primary).glance(), problems),
            self._slow.get(),
            _or_gap("control", self._reports.read(), list[ProcessReport](), problems),
            _or_gap("control", self._limits.look(), Limits(), problems),
        )
        current = [one for one in reports if one.age_s <= CURRENT_S and one.report is not None]
        found = list(glances.values())
        return Overview(
            at=self._clock.now(),
            epoch=self._cluster.shard_map.epoch,
            kpis=kpis_of(found),
            stages=stages_of(found, slow.queues, current),
            queues=tuple(slow.queues),
            shards=self._shards(glances, slow),
            moves=tuple(slow.moves),
            pools=pools_of(current),
            limits=limits_of(limits),
            processes=processes_of(reports),
            process_count=len(reports),
            unknown=UnknownNow(
                sms=sum(one.unknown_sms for one in found),
                email=sum(one.unknown_email for one in found),
                oldest_s=max((one.unknown_oldest_s for one in found), default=0.0),
            ),
            held=sum(slow.held.values()),
            unclaimed_s=max((one.unclaimed_s for one in found), default=0.0),
            problems=(*problems, *slow.problems),
        )

    def _shards(self, glances: dict[str, Glance], slow: _Slow) -> tuple[ShardNow, ...]:
        shares = self._cluster.shard_map.shares()
        return tuple(
            _shard_now(shard, shares.get(shard.name, 0), glances.get(shard.name), slow)
            for shard in self._cluster
        )

    async def _read_slow(self) -> _Slow:
        problems: list[Problem] = []
        queues, moves, maps, held = await asyncio.gather(
            _or_gap("broker", read_queues(self._settings.amqp), list[QueueDepth](), problems),
            _or_gap("moves", moves_of(self._cluster, timeout_s=_MOVES_S), list[MoveView](), problems),
            # Which shard is away is said by its glance.
            self._of_shards(lambda shard: shard.maps.read(), []),
            self._of_shards(lambda shard: GlanceReader(shard.primary).held(), []),
        )
        known = {name: stored for name, stored in maps.items() if stored is not None}
        return _Slow(queues, moves, known, held, problems)

    async def _of_shards(
        self, read: Callable[[Shard], Awaitable[T]], problems: list[Problem]
    ) -> dict[str, T]:
        """Return what each shard says that answers in time."""

        async def of_shard(shard: Shard) -> tuple[str, T | None]:
            return shard.name, await _or_gap(shard.name, read(shard), None, problems)

        answers = await asyncio.gather(*(of_shard(shard) for shard in self._cluster))
        return {name: answer for name, answer in answers if answer is not None}


def _shard_now(shard: Shard, slots: int, glance: Glance | None, slow: _Slow) -> ShardNow:
    stored = slow.maps.get(shard.name)
    now = ShardNow(
        name=shard.name,
        weight=shard.settings.weight,
        slots=slots,
        is_reachable=glance is not None,
        epoch=stored.shard_map.epoch if stored else 0,
        is_settled=stored.is_settled if stored else True,
        held=slow.held.get(shard.name, 0),
    )
    if glance is None:
        return now
    return msgspec.structs.replace(
        now,
        replicas=glance.replicas,
        events_per_min=glance.events,
        due=glance.due,
        unknown=glance.unknown_sms + glance.unknown_email,
    )


Gap = TypeVar("Gap")


async def _or_gap(about: str, reading: Awaitable[T], gap: Gap, problems: list[Problem]) -> T | Gap:
    """Return what is read, or the gap that it leaves, after noting why."""
    try:
        return await within(_TIMEOUT_S, reading)
    except TimeoutError:
        problems.append(Problem(about=about, what=f"no answer in {_TIMEOUT_S:g} s"))
    except PostorderError as error:
        problems.append(Problem(about=about, what=str(error)))
    return gap
