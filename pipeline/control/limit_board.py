"""Limits that count instead of the settings': written to the homes, looked for on every shard.

A change gets the next version; of several copies the highest is in force. So a shard that was away while a
limit was changed does no harm when it is back, and whoever finds it behind brings it up to date.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import Final

import msgspec
import structlog

from pipeline.clock import Clock
from pipeline.control.homes import ask_first, homes
from pipeline.errors import StorageUnavailableError
from pipeline.storage.cluster import Cluster
from pipeline.storage.control import LimitOverride
from pipeline.storage.partial import of_each
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

Limits = dict[str, LimitOverride]
"""The newest copy of each limit, by key; also those that were taken off or are over."""

_READ_TIMEOUT_S: Final = 1.0
_WRITE_TIMEOUT_S: Final = 2.0
_LOOK_TIMEOUT_S: Final = 0.4  # three homes that hang take no longer than a look may be late


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """A change of a limit, the homes that have it, and those that did not answer and get it later."""

    limit: LimitOverride
    homes: tuple[str, ...]
    away: tuple[str, ...]


class LimitBoard:
    """Reads and writes limits."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock

    async def look(self) -> Limits:
        """Return the limits as the first home has them that answers: cheap, and perhaps behind another shard.

        Raises StorageUnavailableError when none answers.
        """
        _, limits = await ask_first(homes(self._cluster), _limits_of, timeout_s=_LOOK_TIMEOUT_S)
        return newest([limits])

    async def survey(self, known: Mapping[str, LimitOverride] | None = None) -> Limits:
        """Return the limits by every shard that answers, and `known`; bring homes that are behind up to date.

        Raises StorageUnavailableError when no shard answers.
        """
        copies = (await of_each(self._cluster, _limits_of, timeout_s=_READ_TIMEOUT_S)).answers
        limits = newest([*copies.values(), list((known or {}).values())])
        behind = {
            home: absent
            for home in homes(self._cluster)
            if home.name in copies and (absent := missing(limits, copies[home.name]))
        }
        await asyncio.gather(*(self._bring_up(home, absent) for home, absent in behind.items()))
        return limits

    async def set(self, key: str, value: float, *, by: str, for_s: float | None = None) -> Written:
        """Have a limit count, for so many seconds or until it is taken off. On return it is on replicas.

        Raises StorageUnavailableError when no home has taken it.
        """
        return await self._change(key, value, by, for_s)

    async def remove(self, key: str, *, by: str) -> Written:
        """Take a limit off: the settings count again. Raises as `set` does."""
        return await self._change(key, None, by, None)

    async def _change(self, key: str, value: float | None, by: str, for_s: float | None) -> Written:
        before = (await self.survey()).get(key)
        limit = LimitOverride(
            key=key,
            value=value,
            version=before.version + 1 if before else 1,
            set_by=by,
            set_at=self._clock.now(),
            expires_at=None if for_s is None else await self._over_at(for_s),
            left_s=for_s,
        )

        async def write(shard: Shard) -> None:
            await shard.control.write_limits([limit])

        took = await of_each(homes(self._cluster), write, timeout_s=_WRITE_TIMEOUT_S)
        return Written(limit=limit, homes=tuple(took.answers), away=took.away)

    async def _over_at(self, for_s: float) -> datetime:
        """Return the time in so many seconds by a database's clock: by those a limit ends, not by ours."""
        _, now = await ask_first(
            homes(self._cluster), lambda home: home.reader.clock(), timeout_s=_READ_TIMEOUT_S
        )
        return now + timedelta(seconds=for_s)

    async def _bring_up(self, home: Shard, absent: list[LimitOverride]) -> None:
        async def write(shard: Shard) -> None:
            await shard.control.write_limits(absent)

        try:
            await of_each([home], write, timeout_s=_WRITE_TIMEOUT_S)
        except StorageUnavailableError as error:  # the next survey finds it behind again
            log.info("limits.not_copied", shard=home.name, error=str(error))
        else:
            log.info("limits.copied", shard=home.name, keys=[limit.key for limit in absent])


def newest(copies: Iterable[Iterable[LimitOverride]]) -> Limits:
    """Return the newest copy of each limit."""
    found: Limits = {}
    for copy in copies:
        for limit in copy:
            known = found.get(limit.key)
            if known is None or limit.rank > known.rank:
                found[limit.key] = limit
    return found


def missing(limits: Mapping[str, LimitOverride], copy: Iterable[LimitOverride]) -> list[LimitOverride]:
    """Return the limits that a copy has not, or has older."""
    there = {limit.key: limit.rank for limit in copy}
    return [limit for key, limit in limits.items() if key not in there or there[key] < limit.rank]


async def _limits_of(shard: Shard) -> list[LimitOverride]:
    return await shard.control.limits()
