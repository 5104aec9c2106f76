"""What the conformance tests share: a scripted broker, both readers, and a look at what they leave behind."""

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec
import pytest
import uvloop
from conformance.inbox import Inbox
from conformance.scripted_broker import ScriptedBroker

from consumers.aio_pika_reader import AioPikaSession
from consumers.amqp import QueueConsumer
from consumers.lean.reader import LeanSession
from consumers.session import Session
from pipeline.clock import Clock, SystemClock
from pipeline.ingest.pressure import Pressure
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import AmqpSettings

QUEUE = "order-processed"
READERS = {"lean": LeanSession, "aio-pika": AioPikaSession}
NewSession = Callable[..., Session]
NewConsumer = Callable[..., QueueConsumer]
KnownDefect = Callable[[str], None]


def pytest_asyncio_loop_factories() -> dict[str, Callable[[], asyncio.AbstractEventLoop]]:
    """As the programs run. The loops differ in how they report a connection's end."""
    return {"uvloop": uvloop.new_event_loop}


@pytest.fixture
async def broker() -> AsyncIterator[ScriptedBroker]:
    started = ScriptedBroker()
    await started.start()
    yield started
    await started.stop()
    assert [wrong for peer in started.peers for wrong in peer.wrongs] == []


@pytest.fixture
def settings(broker: ScriptedBroker) -> AmqpSettings:
    url = f"amqp://guest@127.0.0.1:{broker.port}/"
    return AmqpSettings(url=url, heartbeat_s=1, connect_timeout_s=0.5, publish_timeout_s=0.5)


@pytest.fixture
async def inbox() -> Inbox:
    return Inbox()


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def new_session(reader: str, settings: AmqpSettings, inbox: Inbox) -> AsyncIterator[NewSession]:
    """Return what makes a session of the reader under test; each is closed at the end."""
    made: list[Session] = []

    def make(*, prefetch: int = 100) -> Session:
        made.append(READERS[reader](QUEUE, settings, inbox.take, prefetch))
        return made[-1]

    yield make
    for session in made:
        await session.close()


class HurriedClock(SystemClock):
    """Waits, but not long: what is tested is that there is a next time, not when."""

    async def sleep(self, delay_s: float) -> None:
        await asyncio.sleep(min(delay_s, 0.01))


@pytest.fixture
async def new_consumer(
    broker: ScriptedBroker, settings: AmqpSettings, inbox: Inbox
) -> AsyncIterator[NewConsumer]:
    crashes: list[str] = []
    made: list[QueueConsumer] = []

    def make(
        reader: str, *, pressure: Pressure | None = None, prefetch: int = 10, clock: Clock | None = None
    ) -> QueueConsumer:
        made.append(
            QueueConsumer(
                QUEUE,
                settings=msgspec.structs.replace(settings, reader=reader),
                deliver=inbox.take,
                pressure=pressure or Pressure(high=1000),
                metrics=Metrics(),
                clock=clock or HurriedClock(),
                tasks=Tasks(lambda name, error: crashes.append(f"{name}: {error!r}")),
                prefetch=prefetch,
            )
        )
        return made[-1]

    yield make
    for consumer in made:
        await consumer.stop()
    assert crashes == []


@pytest.fixture(autouse=True)
async def loop_errors() -> AsyncIterator[list[str]]:
    """An error that only the event loop hears of is an error all the same."""
    errors: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(str(context)))
    yield errors
    assert errors == []


@pytest.fixture
def known_defect(request: pytest.FixtureRequest) -> KnownDefect:
    """Return what marks the running test as showing a defect that is reported and not yet mended."""

    def mark(reason: str) -> None:
        request.applymarker(pytest.mark.xfail(strict=True, reason=reason))

    return mark
