"""All shards together, and the map of slots to them as the databases hold it."""

import asyncio
from collections.abc import Callable, Iterator

import structlog

from pipeline.errors import PostorderError, ShardMapError
from pipeline.settings import Settings, ShardSettings
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.map_table import StoredMap
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

FindShard = Callable[[str], ShardSettings | None]
"""Looks a shard up that the map names and the settings did not: they may have been changed meanwhile."""


def _nobody(_name: str) -> ShardSettings | None:
    return None


class Cluster:
    """The shards by name, and the router. Mutable state: both, when a shard comes or slots move.

    `on_added` are called with each shard that comes later; `on_map` after a newer map was adopted.
    """

    def __init__(self, settings: Settings, find_shard: FindShard = _nobody) -> None:
        self._settings = settings
        self._find_shard = find_shard
        self._refreshing: asyncio.Task[None] | None = None
        self._is_loaded = False
        self.shards = {shard.name: self._shard(shard) for shard in settings.shards}
        # What a new installation starts with; `load_map` replaces it by the map in the databases.
        self.router = Router(ShardMap.first({shard.name: shard.weight for shard in settings.shards}))
        self.on_added: list[Callable[[Shard], None]] = []
        self.on_map: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"Cluster({', '.join(self.shards)}; epoch {self.router.epoch})"

    def __iter__(self) -> Iterator[Shard]:
        return iter(list(self.shards.values()))

    def __getitem__(self, name: str) -> Shard:
        return self.shards[name]

    def _shard(self, settings: ShardSettings) -> Shard:
        return Shard(settings, self._settings.storage, self._settings.notifications)

    @property
    def shard_map(self) -> ShardMap:
        """The map in force."""
        return self.router.shard_map

    async def stored_maps(self) -> dict[str, StoredMap]:
        """Return the map of each shard that can be read and has one.

        Raises ShardMapError when a database is another shard's than the settings say, and the first error
        when none can be read.
        """
        shards = list(self)
        answers = await asyncio.gather(*(shard.maps.read() for shard in shards), return_exceptions=True)
        found: dict[str, StoredMap] = {}
        errors = []
        for shard, answer in zip(shards, answers, strict=True):
            if isinstance(answer, PostorderError) and answer.retryable:
                errors.append(answer)
            elif isinstance(answer, BaseException):
                raise answer
            elif answer is not None:
                if answer.shard != shard.name:
                    raise ShardMapError(
                        f"{shard.primary.name} at {shard.primary.address} is the database of {answer.shard}: "
                        f"correct shards.{shard.name} in the settings"
                    )
                found[shard.name] = answer
        if errors and not found:
            raise errors[0]
        return found

    async def load_map(self) -> None:
        """Adopt the newest map of the databases. Raises ShardMapError when there is none, or as above."""
        stored = await self.stored_maps()
        if not stored:
            raise ShardMapError("the databases hold no shard map: run `postorder migrate` first")
        newest = max((found.shard_map for found in stored.values()), key=lambda found: found.epoch)
        await self.adopt(newest)

    async def adopt(self, shard_map: ShardMap) -> None:
        """Go by a map, unless it is older than the one in force. Raises ShardMapError for unknown shards."""
        for name in sorted(set(shard_map.owners) - set(self.shards)):
            await self._add(name, shard_map.epoch)
        if shard_map.epoch < self.router.epoch:
            return
        is_news, was_loaded = shard_map != self.router.shard_map, self._is_loaded
        self.router.adopt(shard_map)
        self._is_loaded = True
        if is_news:
            note = log.info if was_loaded else log.debug  # the first one is no change
            note("shard_map.adopted", epoch=shard_map.epoch, shares=shard_map.shares())
            for tell in self.on_map:
                tell()

    async def _add(self, name: str, epoch: int) -> None:
        settings = self._find_shard(name)
        if settings is None:
            raise ShardMapError(
                f"the shard map (epoch {epoch}) names {name}, the settings do not: add it under [[shards]]"
            )
        shard = self._shard(settings)
        await shard.primary.open()
        if name in self.shards:  # another task was quicker
            await shard.close()
            return
        self.shards[name] = shard
        log.info("shard.added", shard=name)
        for tell in self.on_added:
            tell(shard)

    async def refresh(self) -> None:
        """Read the map again; callers at once share one reading. Errors are logged, and the old map stays."""
        if self._refreshing is None or self._refreshing.done():
            self._refreshing = asyncio.create_task(self._refresh(), name="refresh shard map")
        await asyncio.shield(self._refreshing)

    async def _refresh(self) -> None:
        try:
            await self.load_map()
        except PostorderError as error:
            log.warning("shard_map.unread", error=str(error))

    async def close(self) -> None:
        """Close every pool."""
        await asyncio.gather(*(shard.close() for shard in self))
