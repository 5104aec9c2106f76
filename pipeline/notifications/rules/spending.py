"""The spend breaker: what SMS cost is counted over all shards, and above a limit they wait.

Against SMS pumping, where somebody orders in the name of numbers that earn him a share of each message.
"""

import asyncio
from collections import Counter

import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import HeldBackError, PostorderError
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.countries import calling_code
from pipeline.notifications.rules.prefix_cap import PrefixCap
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.settings import RuleSettings
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)

LOOK_S = 2.0
_TOTAL = "all"
_HOLD_S = 60.0
_SPREAD = Backoff(base_s=240.0, ceiling_s=240.0)  # so that what was held does not come back all at once


class Spending:
    """A service that counts segments and says when it is enough.

    The limits are overrun by at most what all processes send between two looks. Mutable state: `_stored`
    (the last hour's segments by shard, as last read), `_unread` (by shard, written since), `_unwritten`,
    `_held` (the calling codes, or `all`, that are over their limit).
    """

    name = "spending"

    def __init__(
        self,
        cluster: Cluster,
        settings: RuleSettings,
        *,
        metrics: RuleMetrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._cluster = cluster
        self._total_max = settings.spend_segments_per_hour
        self._country_max = settings.spend_segments_per_country_hour
        self._prefixes = PrefixCap(settings.spend_segments_per_prefix_hour, clock)
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._stored: dict[str, Counter[str]] = {}
        self._unread: dict[str, Counter[str]] = {}
        self._unwritten: Counter[str] = Counter()
        self._sums: Counter[str] = Counter()
        self._held: set[str] = set()

    def __repr__(self) -> str:
        return f"Spending({self._sums[_TOTAL]} segments in the last hour; held: {sorted(self._held)})"

    @property
    def is_limited(self) -> bool:
        """Whether there is a limit that the shards have to be asked for."""
        return bool(self._total_max or self._country_max)

    def check(self, number: str) -> None:
        """Raise HeldBackError (`spend_total`, `spend_country`, `spend_prefix`) while it is enough."""
        if self._total_max and self._is_over(_TOTAL, self._total_max):
            raise _held("spend_total", "SMS of the last hour reached their limit")
        if self._country_max and self._is_over(calling_code(number), self._country_max):
            raise _held("spend_country", "SMS of the last hour to the country reached their limit")
        if self._prefixes.is_reached(number):
            raise _held("spend_prefix", "SMS of the last hour to like numbers reached their limit")

    def add(self, number: str, segments: int) -> None:
        """Count an SMS that was accepted, or may have been."""
        code = calling_code(number)
        self._metrics.sms_segments.labels(code).inc(segments)
        self._prefixes.add(number, segments)
        if self.is_limited:
            self._unwritten[code] += segments
            self._sums[code] += segments
            self._sums[_TOTAL] += segments

    async def start(self) -> None:
        """Read what was spent, then look again and again. Without limits: nothing."""
        if self.is_limited:
            await self.look()
            self._tasks.start(self._look_forever(), "spending")

    async def drain(self) -> None:
        """Write what is not written yet."""
        await self._tasks.cancel()
        if self.is_limited:
            await self._write()

    async def stop(self) -> None:
        """End."""
        await self._tasks.cancel()

    async def look(self) -> None:
        """Write what was spent here, and read what was spent everywhere. A shard's last word counts on."""
        await self._write()
        await asyncio.gather(*(self._read(shard.name) for shard in self._cluster))
        # What was added while the shards were asked is in `_unwritten` still.
        sums = sum((*self._stored.values(), *self._unread.values()), Counter(self._unwritten))
        sums[_TOTAL] = sums.total()
        self._sums = sums
        for what in list(self._held):
            self._is_over(what, self._total_max if what == _TOTAL else self._country_max)

    async def _look_forever(self) -> None:
        while True:
            await self._clock.sleep(LOOK_S)
            await self.look()

    async def _write(self) -> None:
        """Write to the first shard that takes it. Without an answer it may count twice: that sends less."""
        for shard in self._cluster:
            if not self._unwritten:
                return
            written, self._unwritten = self._unwritten, Counter()
            try:
                await shard.spend.add(written)
            except PostorderError as error:
                log.info("spend.unwritten", shard=shard.name, error=str(error))
                self._unwritten.update(written)
            except asyncio.CancelledError:  # by a drain, which writes once more
                self._unwritten.update(written)
                raise
            else:
                self._unread.setdefault(shard.name, Counter()).update(written)
                return

    async def _read(self, name: str) -> None:
        try:
            self._stored[name] = await self._cluster[name].spend.last_hour()
        except PostorderError as error:
            log.info("spend.unread", shard=name, error=str(error))
        else:
            self._unread.pop(name, None)

    def _is_over(self, what: str, limit: int) -> bool:
        """Tell whether a limit is reached; say so once when that begins and once when it ends."""
        is_over = self._sums[what] >= limit
        if is_over != (what in self._held):
            (self._held.add if is_over else self._held.discard)(what)
            self._metrics.spend_held.labels(what).set(is_over)
            if is_over:
                log.error("spend.limit_reached", calling_code=what, segments=self._sums[what], limit=limit)
            else:
                log.warning("spend.goes_on", calling_code=what, segments=self._sums[what], limit=limit)
        return is_over


def _held(code: str, text: str) -> HeldBackError:
    return HeldBackError(code, text, _HOLD_S + _SPREAD.delay_s(1))
