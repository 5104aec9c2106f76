"""One listening connection to a shard's primary, made anew whenever it is lost."""

import asyncio
from collections.abc import Awaitable, Callable

import asyncpg
import structlog

from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import PostorderError
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

_RETRY = Backoff(base_s=0.2, ceiling_s=5.0)
_LOOK_INTERVAL_S = 30.0
_LOST = (
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
    OSError,
    TimeoutError,
)

Attend = Callable[[asyncpg.Connection], Awaitable[None]]


class Listener:
    """Listens to a channel of NOTIFY on one shard.

    `on_notice` gets each payload. `attend` gets the connection: when it has begun to listen, after notices
    (one call for all that came meanwhile), and after each long silence, so that a peer that is gone without a
    word is found out. `on_lost` is called when notices may be missed from now on.
    """

    def __init__(
        self,
        shard: Shard,
        channel: str,
        *,
        on_notice: Callable[[str], None],
        attend: Attend,
        on_lost: Callable[[], None],
        clock: Clock,
    ) -> None:
        self._shard = shard
        self._channel = channel
        self._on_notice = on_notice
        self._attend = attend
        self._on_lost = on_lost
        self._clock = clock

    def __repr__(self) -> str:
        return f"Listener({self._channel} on {self._shard.name})"

    async def run(self) -> None:
        """Listen until cancelled."""
        failures = 0
        while True:
            try:
                connection = await self._shard.primary.dedicated_connection()
            except PostorderError as error:
                failures += 1
                log.debug("listener.away", channel=self._channel, shard=self._shard.name, error=str(error))
                await self._clock.sleep(_RETRY.delay_s(failures))
                continue
            failures = 0
            try:
                await self._listen(connection)
            except _LOST as error:
                what = type(error).__name__
                log.info("listener.lost", channel=self._channel, shard=self._shard.name, error=what)
            finally:
                self._on_lost()
                connection.terminate()
            await self._clock.sleep(_RETRY.delay_s(1))

    async def _listen(self, connection: asyncpg.Connection) -> None:
        news, lost = asyncio.Event(), asyncio.Event()

        def on_notice(_connection: object, _pid: int, _channel: str, payload: str) -> None:
            self._on_notice(payload)
            news.set()

        def on_end(_connection: object) -> None:
            lost.set()
            news.set()

        connection.add_termination_listener(on_end)
        await connection.add_listener(self._channel, on_notice)
        news.set()
        while not lost.is_set():
            try:
                async with asyncio.timeout(_LOOK_INTERVAL_S):
                    await news.wait()
            except TimeoutError:
                pass  # the ordinary case: nothing happened
            news.clear()
            if not lost.is_set():
                await self._attend(connection)
