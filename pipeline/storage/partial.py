"""Answers of the shards that answer: one that is away hides nothing of the others, and is named."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, Generic, TypeVar

import msgspec
import structlog

from pipeline.errors import PostorderError, StorageTimeoutError, StorageUnavailableError
from pipeline.storage.shard import Shard

log = structlog.get_logger(__name__)

T = TypeVar("T")

TIMEOUT_S: Final = 2.0
_given_up: set[asyncio.Future[Any]] = set()
"""What still ends after it was given up: the event loop itself would forget it."""


async def within(timeout_s: float, asking: Awaitable[T]) -> T:
    """Return an answer, or give the asking up after so long, without waiting for its end.

    Its end takes seconds when a server hangs: the pool waits for it to confirm that a statement was broken
    off. Raises TimeoutError.
    """
    task = asyncio.ensure_future(asking)
    task.add_done_callback(_forget)
    try:
        await asyncio.wait({task}, timeout=timeout_s)
    finally:
        if not task.done():
            _given_up.add(task)
            task.cancel()
    if not task.done():
        raise TimeoutError
    return task.result()


def _forget(task: asyncio.Future[Any]) -> None:
    _given_up.discard(task)
    if not task.cancelled():
        task.exception()  # nobody may ask any more


class Partial(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """What shards said, by name, and why the others did not answer, by theirs."""

    answers: dict[str, T]
    missing: dict[str, str]

    @property
    def away(self) -> tuple[str, ...]:
        """The names of the shards that did not answer."""
        return tuple(self.missing)

    def require_all(self, what: str) -> None:
        """Raise StorageUnavailableError when a shard that did not answer may have what was not found."""
        if self.missing:
            raise StorageUnavailableError(f"{', '.join(self.missing)}: no answer: {what} may be there")


async def of_each(
    shards: Iterable[Shard], ask: Callable[[Shard], Awaitable[T]], *, timeout_s: float = TIMEOUT_S
) -> Partial[T]:
    """Ask shards at once.

    Raises StorageUnavailableError when none answers, and what is wrong with the question itself.
    """
    asked = list(shards)
    found = await asyncio.gather(*(_of(shard, ask, timeout_s) for shard in asked))
    answers = {name: answer for name, answer, error in found if error is None}
    missing = {name: str(error) for name, _, error in found if error is not None}
    if missing and not answers:
        raise StorageUnavailableError(f"no shard of {len(asked)} answers: {found[0][2]}")
    if missing:
        log.debug("shards.no_answer", shards=tuple(missing))
    return Partial(answers=answers, missing=missing)  # type: ignore[arg-type]  # an answer without error is one


async def _of(
    shard: Shard, ask: Callable[[Shard], Awaitable[T]], timeout_s: float
) -> tuple[str, T | None, PostorderError | None]:
    try:
        return shard.name, await within(timeout_s, ask(shard)), None
    except TimeoutError:
        return shard.name, None, StorageTimeoutError(f"{shard.name}: no answer in {timeout_s:g} s")
    except PostorderError as error:
        if not error.retryable:
            raise
        return shard.name, None, error
