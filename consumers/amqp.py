"""The consumer of one queue: a session after another, whatever becomes of each."""

from collections.abc import Callable

import structlog

from consumers.aio_pika_reader import AioPikaSession
from consumers.connection import broker_address
from consumers.lean.reader import LeanSession
from consumers.return_address import restore
from consumers.session import Session
from consumers.topology import RETURN
from pipeline.backoff import Backoff
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailableError, EventError
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.pressure import Pressure
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings

log = structlog.get_logger(__name__)

_RECONNECT = Backoff(base_s=0.5, ceiling_s=5.0)
_BRIEF_S = 1.0  # a session that ends sooner counts as a failure to connect
_DECODE_LOSSES_MAX = 2


class QueueConsumer:
    """Consumes one queue for as long as it runs: a lost session is followed by a new one.

    A message that the library cannot read costs its connection, comes first again on the next one, and so
    on. After two such losses the lean reader takes over with a window of one, so that healthy neighbours
    are not delivered again and again, until the message at fault is settled.
    """

    def __init__(
        self,
        queue: str,
        *,
        settings: AmqpSettings,
        deliver: Callable[[Delivery], None],
        pressure: Pressure,
        metrics: Metrics,
        clock: Clock,
        tasks: Tasks,
        prefetch: int | None = None,
    ) -> None:
        self.name = f"{queue} consumer"
        self.queue = queue
        self._settings = settings
        self._deliver = deliver
        self._pressure = pressure
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._prefetch = prefetch or settings.prefetch
        self._session: Session | None = None
        self._draining = False
        self._decode_losses = 0
        self._isolated = 0
        self._leaving = False
        self._is_isolating = False
        self._taken = metrics.deliveries.counts
        self._taken.setdefault((queue,), 0)
        pressure.subscribe(self._on_pressure)

    def __repr__(self) -> str:
        return f"QueueConsumer({self.queue}: {self._session!r})"

    @property
    def prefetch(self) -> int:
        """Deliveries that may be unsettled at most."""
        return self._prefetch

    @property
    def consuming(self) -> bool:
        """Whether a session is open."""
        return self._session is not None and not self._draining

    @property
    def taken(self) -> int:
        """Deliveries taken so far."""
        return self._taken[self.queue,]

    @property
    def open_deliveries(self) -> int:
        """Deliveries that are not settled."""
        session = self._session
        return 0 if session is None else session.open_deliveries

    async def start(self) -> None:
        """Start consuming; a broker that is away is waited for."""
        metrics = self._metrics
        metrics.consuming.labels(self.queue).set_function(lambda: self.consuming)
        metrics.prefetch.labels(self.queue).set_function(lambda: self._prefetch)
        metrics.open_deliveries.labels(self.queue).set_function(lambda: self.open_deliveries)
        self._tasks.start(self._supervise(), self.name)

    async def drain(self) -> None:
        """Take no more deliveries. Those taken are acknowledged as they become durable, until stop."""
        self._draining = True
        if self._session is not None:
            await self._session.cancel()

    async def stop(self) -> None:
        """Send the last acknowledgements and close the connection."""
        self._draining = True
        await self.restart()
        await self._tasks.cancel()

    async def restart(self) -> None:
        """Close the session; unless draining, a new one follows."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def set_prefetch(self, prefetch: int) -> None:
        """Have so many deliveries unsettled at most from now on.

        Raises nothing: a session that is lost over it is followed by one that goes by the new number.
        """
        if prefetch == self._prefetch:
            return
        self._prefetch = prefetch
        if self._session is not None and not self._draining and not self._is_isolating:
            await self._session.set_prefetch(prefetch)
            log.info("amqp.prefetch_set", queue=self.queue, prefetch=prefetch)

    def _on_pressure(self, paused: bool) -> None:  # noqa: FBT001  # the one argument is the state
        if self._session is not None:
            self._session.pause(paused)

    async def _supervise(self) -> None:
        failures = 0
        while not self._draining:
            try:
                await self._run_session()
            except BrokerUnavailableError as error:
                failures += 1
                delay_s = _RECONNECT.delay_s(failures)
                log.warning(
                    "amqp.unavailable", queue=self.queue, error=str(error), retry_in_s=round(delay_s, 2)
                )
                await self._clock.sleep(delay_s)
            else:
                failures = 0

    async def _run_session(self) -> None:
        """Consume until the session is lost. Raises BrokerUnavailableError if that was at once."""
        prefetch = self._prefetch
        session = self._new_session()
        await session.open()
        opened_at_s = self._clock.monotonic()
        self._session = session
        if not self.consuming:
            await session.cancel()  # told to drain while this was opening
        if self._pressure.paused:
            session.pause(paused=True)
        log.info("amqp.consuming", queue=self.queue, prefetch=self._prefetch)
        if prefetch != self._prefetch and not self._is_isolating:
            await session.set_prefetch(self._prefetch)  # set while this was opening
        why = await session.wait_lost()
        if self._draining:
            return
        # A broker that lets in and cuts at once is as good as away; an end we brought about says nothing.
        brief = self._session is session and self._clock.monotonic() - opened_at_s < _BRIEF_S
        await self._after_loss(session, why)
        if brief:
            where = f"broker at {broker_address(self._settings)}"
            raise BrokerUnavailableError(f"{where}: connection lost right after it was opened: {why}")

    async def _after_loss(self, session: Session, why: str) -> None:
        self._metrics.reconnects.labels(self.queue).inc()
        log.warning("amqp.connection_lost", queue=self.queue, error=why)
        if self._session is session:
            self._session = None
        await session.close()
        # Only now: channel and connection both tell of the loss, and the one that knows why may come second.
        self._decode_losses = self._decode_losses + 1 if session.lost_by_decoding else 0

    def _new_session(self) -> Session:
        self._is_isolating = False
        if self._settings.reader == "lean":
            return LeanSession(self.queue, self._settings, self._take, self._prefetch)
        if self._decode_losses >= _DECODE_LOSSES_MAX:
            log.warning("amqp.isolating", queue=self.queue)
            self._isolated, self._leaving, self._is_isolating = 0, False, True
            return LeanSession(self.queue, self._settings, self._take_isolated, 1)
        return AioPikaSession(self.queue, self._settings, self._take, self._prefetch)

    def _take(self, delivery: Delivery) -> None:
        self._taken[self.queue,] += 1
        if delivery.exchange == RETURN:
            restore(delivery)
        self._deliver(delivery)

    def _take_isolated(self, delivery: Delivery) -> None:
        """Take deliveries one by one, until the one at fault was among them."""
        self._take(delivery)
        if self._leaving:
            return
        self._isolated += 1
        try:
            _ = delivery.properties
        except EventError:
            log.warning("amqp.isolated", queue=self.queue, after=self._isolated)
            self._leave_isolation()
        else:
            if self._isolated > self._prefetch:
                self._leave_isolation()

    def _leave_isolation(self) -> None:
        self._leaving = True
        self._decode_losses = 0
        self._tasks.start(self._restart_when_settled(), f"{self.name}: leave isolation")

    async def _restart_when_settled(self) -> None:
        session = self._session
        if session is None or self._draining:
            return
        await session.cancel()  # else there would always be another one to wait for
        while session is self._session and session.open_deliveries:
            await self._clock.sleep(0.05)
        if session is self._session and not self._draining:
            await self.restart()


class ConsumerFactory:
    """Makes the consumers of a process: they differ in their queue only."""

    def __init__(
        self,
        *,
        settings: AmqpSettings,
        deliver: Callable[[Delivery], None],
        pressure: Pressure,
        metrics: Metrics,
        clock: Clock,
        new_tasks: Callable[[], Tasks],
    ) -> None:
        self._settings = settings
        self._deliver = deliver
        self._pressure = pressure
        self._metrics = metrics
        self._clock = clock
        self._new_tasks = new_tasks

    def consumer(self, queue: str, *, prefetch: int | None = None) -> QueueConsumer:
        """Return a consumer; `prefetch` is the settings' unless given."""
        return QueueConsumer(
            queue,
            settings=self._settings,
            deliver=self._deliver,
            pressure=self._pressure,
            metrics=self._metrics,
            clock=self._clock,
            tasks=self._new_tasks(),
            prefetch=prefetch,
        )
