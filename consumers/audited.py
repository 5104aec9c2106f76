"""Who gives a command, and the record of what it does."""

import getpass
import os
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


def _nothing(_found: object) -> str:
    return ""


def operator() -> str:
    """Return who gives the command: by name, or by number where the account has none, as in a container."""
    try:
        return f"user {getpass.getuser()}"
    except (OSError, KeyError):
        return f"uid {os.getuid()}"


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
    told: Callable[[T], str] = _nothing,
) -> T:
    """Do a command's work on record, by connections of its own; return what it returns.

    `told`: what the record says of what came of it; ids and counts only.
    `must` False: for what has to be done when shards are away and nothing can be recorded: then a line of the
    log says so. Otherwise raises StorageUnavailableError, and nothing is done.
    """
    action: Action | None = None
    async with AsyncExitStack() as stack:
        try:
            cluster = await stack.enter_async_context(reachable(settings))
            action = await stack.enter_async_context(audited(cluster, what, target, detail))
        except PostorderError as error:
            if must:
                raise
            log.warning("audit.unwritten", what=what, target=target, error=str(error))
        found = await work()
        if action is not None:
            action.detail = told(found)
        return found
