"""Connections to the broker, and its library's errors put into ours."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aio_pika
from aio_pika.abc import AbstractConnection
from aio_pika.exceptions import AMQPError, ChannelNotFoundEntity, ProbableAuthenticationError
from yarl import URL

from pipeline.errors import BrokerUnavailableError
from pipeline.settings import AmqpSettings

BROKER_ERRORS = (AMQPError, OSError, TimeoutError, asyncio.InvalidStateError, RuntimeError)
"""What aio-pika raises when the broker or the connection fails."""


def broker_address(settings: AmqpSettings) -> str:
    """Return host:port for messages to people."""
    url = URL(settings.url)
    return f"{url.host}:{url.port or 5672}"


async def open_connection(settings: AmqpSettings, name: str) -> AbstractConnection:
    """Connect. Not aio-pika's "robust" connection: our supervisors rebuild everything after a loss.

    Raises BrokerUnavailableError, with what to do about it.
    """
    url = URL(settings.url)
    if settings.password:
        url = url.with_password(settings.password)
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            return await aio_pika.connect(
                url.update_query(heartbeat=settings.heartbeat_s, name=name),
                timeout=settings.connect_timeout_s,
            )
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(explain(error, settings)) from error


async def close_quietly(opened: AbstractConnection | None, settings: AmqpSettings) -> None:
    """Close a connection if there is one; return after `connect_timeout_s` at the latest. Raises nothing."""
    if opened is None:
        return
    try:
        async with asyncio.timeout(settings.connect_timeout_s):
            await opened.close()
    except BROKER_ERRORS:
        pass  # it is gone already, which is what closing is for


def explain(error: BaseException, settings: AmqpSettings) -> str:
    """Say in one line what is wrong with the broker and what to do."""
    where = f"broker at {broker_address(settings)}"
    match error:
        case ProbableAuthenticationError():
            return f"{where}: it refuses the user or password of amqp.url: check POSTORDER_AMQP_PASSWORD"
        case ChannelNotFoundEntity():
            return f"{where}: a queue is missing: run `postorder topology apply`"
        case TimeoutError():
            return f"{where}: no answer in {settings.connect_timeout_s:g} s: is it running?"
        case ConnectionError() if "refused" in str(error) or "Connect call failed" in str(error):
            # aiormq wraps the system's error in one of its own, with the same text.
            return f"{where}: connection refused: is it running?"
    return f"{where}: {type(error).__name__}"


@asynccontextmanager
async def connection(settings: AmqpSettings, name: str) -> AsyncIterator[AbstractConnection]:
    """Open a connection for a command and close it afterwards."""
    opened = await open_connection(settings, name)
    try:
        yield opened
    except BROKER_ERRORS as error:
        raise BrokerUnavailableError(explain(error, settings)) from error
    finally:
        await close_quietly(opened, settings)
