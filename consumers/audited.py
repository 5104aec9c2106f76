"""Who gives a command, and the record of what it does."""

import getpass
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from typing import TypeVar

import structlog

from consumers.reachable import reachable
from pipeline.clock import SystemClock
from pipeline.control.audit_log import Action, AuditLog
from pipeline.errors import PostorderError
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster

log = structlog.get_logger(__name__)

T = TypeVar("T")


def operator() -> str:
    """Return who gives the command. Raises PostorderError when the system does not say."""
    try:
        return f"user {getpass.getuser()}"
    except (OSError, KeyError) as error:  # an account without a name
        raise PostorderError("the system does not say who you are: set LOGNAME") from error


def audited(
    cluster: Cluster, what: str, target: str, detail: str = ""
) -> AbstractAsyncContextManager[Action]:
    """Do something by a command on record: see AuditLog.action."""
    return AuditLog(cluster, SystemClock()).action(operator(), what, target, detail)


async def on_record(
    settings: Settings,
    what: str,
    target: str,
    work: Callable[[], Awaitable[T]],
    detail: str = "",
    *,
    must: bool = True,
) -> T:
    """Do a command's work on record, by connections of its own; return what it returns.

    `must` False: for what has to be done when shards are away and nothing can be recorded: then a line of the
    log says so. Otherwise raises StorageUnavailableError, and nothing is done.
    """
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(reachable(settings))
            await stack.enter_async_context(audited(cluster, what, target, detail))
        except PostorderError as error:
            if must:
                raise
            log.warning("audit.unwritten", what=what, target=target, error=str(error))
        return await work()
