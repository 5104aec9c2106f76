"""Order of starting and stopping, and that no task dies in silence."""

import asyncio

import pytest

from pipeline.lifecycle import Tasks, run_services


class Recorder:
    def __init__(self, name: str, log: list[str], *, fails: bool = False, drain_s: float = 0.0) -> None:
        self.name = name
        self._log = log
        self._fails = fails
        self._drain_s = drain_s

    async def start(self) -> None:
        self._log.append(f"start {self.name}")
        if self._fails:
            raise OSError(self.name)

    async def drain(self) -> None:
        self._log.append(f"drain {self.name}")
        await asyncio.sleep(self._drain_s)

    async def stop(self) -> None:
        self._log.append(f"stop {self.name}")


def stopping() -> asyncio.Event:
    event = asyncio.Event()
    event.set()
    return event


async def test_downstream_starts_first_and_upstream_drains_first() -> None:
    log: list[str] = []
    services = [Recorder(name, log) for name in ("provider", "writer", "consumer")]
    assert await run_services(services, stopping(), drain_timeout_s=1)
    assert log == [
        *("start provider", "start writer", "start consumer"),
        *("drain consumer", "drain writer", "drain provider"),
        *("stop consumer", "stop writer", "stop provider"),
    ]


async def test_what_was_started_is_stopped_when_a_later_service_fails() -> None:
    log: list[str] = []
    services = [Recorder("a", log), Recorder("b", log, fails=True), Recorder("c", log)]
    with pytest.raises(OSError, match="b"):
        await run_services(services, stopping(), drain_timeout_s=1)
    assert log == ["start a", "start b", "stop a"]


async def test_each_is_stopped_whatever_another_ones_stop_raises() -> None:
    class Broken(Recorder):
        async def stop(self) -> None:
            await super().stop()
            raise OSError(self.name)

    log: list[str] = []
    with pytest.raises(OSError, match="b"):
        await run_services([Recorder("a", log), Broken("b", log)], stopping(), drain_timeout_s=1)
    assert log[-2:] == ["stop b", "stop a"]


async def test_a_drain_that_takes_too_long_is_given_up_and_everything_stopped() -> None:
    log: list[str] = []
    services = [Recorder("a", log), Recorder("b", log, drain_s=60)]
    assert not await run_services(services, stopping(), drain_timeout_s=0.01)
    assert log[-2:] == ["stop b", "stop a"]


async def test_a_task_that_dies_is_reported_and_a_cancelled_one_is_not() -> None:
    crashes: list[tuple[str, BaseException]] = []
    tasks = Tasks(lambda name, error: crashes.append((name, error)))

    async def die() -> None:
        raise ValueError("defect")

    tasks.start(die(), "one")
    tasks.start(asyncio.Event().wait(), "two")  # type: ignore[arg-type]  # what it returns does not matter
    await asyncio.sleep(0.01)
    await tasks.cancel()
    assert [(name, str(error)) for name, error in crashes] == [("one", "defect")]


async def test_fifty_starts_and_stops() -> None:
    for _ in range(50):
        tasks = Tasks(lambda name, error: pytest.fail(f"{name}: {error}"))
        for number in range(5):
            tasks.start(asyncio.sleep(60), f"sleeper {number}")
        await tasks.cancel()
        await tasks.cancel()
        await tasks.join()


async def test_a_cancellation_that_gets_lost_is_said_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.lifecycle._LOST_S", 0.01)
    lost = []

    async def deaf_once() -> None:
        while True:
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                if lost:
                    raise
                lost.append(1)

    tasks = Tasks(lambda *_crash: None)
    task = tasks.start(deaf_once(), "deaf")
    await asyncio.sleep(0)
    async with asyncio.timeout(5):
        await tasks.cancel()
    assert task.cancelled()
