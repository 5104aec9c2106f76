"""Answers that are waited for no longer than said, whatever their end takes."""

import asyncio
import gc

import pytest
from structlog.testing import capture_logs

from pipeline.errors import StorageUnavailableError
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.partial import of_each, within
from pipeline.storage.shard import Shard


class Hung:
    """A question to a server that hangs: broken off, it ends when `go_on` is set, with an error."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.ended = asyncio.Event()

    async def ask(self) -> int:
        try:
            await asyncio.Event().wait()
        finally:
            await self.go_on.wait()
            self.ended.set()
            raise StorageUnavailableError("gone")


async def test_what_takes_too_long_is_given_up_and_its_end_not_waited_for() -> None:
    hung, complaints = Hung(), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
    async with asyncio.timeout(2):
        with pytest.raises(TimeoutError):
            await within(0.01, hung.ask())
        assert not hung.ended.is_set()
        hung.go_on.set()
        await hung.ended.wait()
    assert complaints == []


async def test_who_is_broken_off_himself_does_not_wait_either() -> None:
    hung = Hung()
    waiting = asyncio.create_task(within(60, hung.ask()))
    await asyncio.sleep(0)
    waiting.cancel()
    async with asyncio.timeout(2):
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert not hung.ended.is_set()
        hung.go_on.set()
        await hung.ended.wait()


async def test_an_error_that_comes_with_the_breaking_off_is_no_complaint() -> None:
    go_on, complaints = asyncio.Event(), []
    asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))

    async def fail() -> int:
        await go_on.wait()
        raise StorageUnavailableError("gone")

    waiting = asyncio.create_task(within(60, fail()))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    go_on.set()
    await asyncio.sleep(0)  # it has failed, and who waits has not heard of it
    waiting.cancel()
    await asyncio.wait({waiting})
    assert waiting.cancelled()
    del waiting
    gc.collect()
    assert complaints == []


async def test_a_shard_that_hangs_is_named_and_hides_no_answer() -> None:
    nowhere = "postgresql://u@127.0.0.1:1/d"
    cluster = Cluster(Settings(shards=tuple(ShardSettings(name=n, primary=nowhere) for n in ("a", "b"))))
    hung = Hung()

    async def ask(shard: Shard) -> int:
        return await hung.ask() if shard.name == "b" else 1

    with capture_logs():
        async with asyncio.timeout(2):
            found = await of_each(cluster, ask, timeout_s=0.01)
    hung.go_on.set()
    await hung.ended.wait()
    assert (found.answers, found.missing) == ({"a": 1}, {"b": "b: no answer in 0.01 s"})
