"""Events that come over HTTP go to the broker: taken once it has confirmed them, refused while it is away."""

import asyncio
from collections.abc import Sequence
from typing import Final

import msgspec
import structlog

from consumers.publisher import EventPublisher
from pipeline.adapters.mapping import Adapted
from pipeline.clock import Clock
from pipeline.errors import BrokerUnavailableError, BusyError, PostorderError, PublishUnknownError
from pipeline.lifecycle import Tasks
from pipeline.settings import AmqpSettings, WebhookSettings

log = structlog.get_logger(__name__)

_AVOID_S: Final = 1.0  # after the broker did not answer, nobody waits for it for so long


class EventDesk:
    """A service. A publish is not cut off when its request has waited long enough: it ends by itself.

    What of it arrived is then unknown to the vendor, who sends it again, with the same id. Mutable state:
    `under_way`, and until when the broker is avoided.
    """

    name = "webhook events"

    def __init__(self, amqp: AmqpSettings, webhooks: WebhookSettings, *, clock: Clock, tasks: Tasks) -> None:
        timeout_s = min(webhooks.publish_timeout_s, amqp.publish_timeout_s)
        # One try: the vendor tries again, and is told so while it still listens.
        once = msgspec.structs.replace(
            amqp,
            publish_timeout_s=timeout_s,
            connect_timeout_s=min(timeout_s, amqp.connect_timeout_s),
            publish_give_up_s=timeout_s / 100,
        )
        self._publisher = EventPublisher(once)
        self._timeout_s = webhooks.publish_timeout_s
        self._publishes_max = webhooks.publishes_max
        self._clock = clock
        self._tasks = tasks
        self._avoided_until = clock.monotonic()
        self.under_way = 0

    def __repr__(self) -> str:
        return f"EventDesk({self.under_way} under way)"

    async def start(self) -> None:
        """Do nothing: the connection is opened when first needed."""

    async def drain(self) -> None:
        """Wait for the confirms of what is under way."""
        await self._tasks.join()

    async def stop(self) -> None:
        """Close the connection."""
        await self._tasks.cancel()
        await self._publisher.close()

    async def publish(self, events: Sequence[Adapted]) -> None:
        """Publish events; return when each is confirmed, that is, in a queue for good.

        Raises BusyError, BrokerUnavailableError, PublishUnknownError, TimeoutError: it may help to send them
        again, with the same ids; and UnroutableError.
        """
        if self._clock.monotonic() < self._avoided_until:
            raise BrokerUnavailableError("the broker did not answer just now")
        if self.under_way >= self._publishes_max:
            raise BusyError(f"{self.under_way} webhooks wait for the broker")
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way += 1
        self._tasks.start(self._publish(events, done), "publish a webhook")
        async with asyncio.timeout(self._timeout_s):
            await done

    async def _publish(self, events: Sequence[Adapted], done: asyncio.Future[None]) -> None:
        error: PostorderError | None = PublishUnknownError("the program ends")  # however this is left
        try:
            for event in events:
                await self._publisher.publish(event.body, event.event_type)
            error = None
        except PostorderError as raised:
            error = raised
            if raised.retryable:
                self._avoided_until = self._clock.monotonic() + _AVOID_S
        finally:
            self.under_way -= 1
            if not done.done():  # otherwise its request has given up
                if error is None:
                    done.set_result(None)
                else:
                    done.set_exception(error)
            elif error is not None:
                log.info("webhook.unconfirmed", error=str(error))
