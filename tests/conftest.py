"""What tests share: the real stack, started once per run, and a pipeline process on it; how long to try."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import hypothesis
import pytest
from moving_shards import Moving, moving_shards, shard_databases
from real_stack import Bench, open_bench, prepare

from consumers.stack_settings import write_stack_settings
from loadtest.pipeline_process import PipelineProcess
from pipeline.settings import Settings, load_settings
from stack.launcher import StackConfig, down, reset, up
from stack.status import StackStatus

# How many examples a property is tried on where its test does not say. No deadline: a busy machine makes any
# example slow, and the time-out of a test is there for what hangs.
hypothesis.settings.register_profile("push", deadline=None, max_examples=25)
hypothesis.settings.register_profile("thorough", deadline=None, max_examples=300)


@pytest.fixture(scope="session")
def stack_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="session")
def stack(stack_folder: Path) -> Iterator[StackStatus]:
    """A running stack of two shards, of this test run alone."""

    def quiet(_text: str) -> None:
        pass

    try:
        yield up(StackConfig(data_dir=stack_folder), quiet)
    finally:
        down(stack_folder, quiet)
        reset(stack_folder, quiet)


@pytest.fixture(scope="session")
def settings_file(stack: StackStatus, stack_folder: Path) -> Path:
    return write_stack_settings(stack, stack_folder)


@pytest.fixture
def settings(settings_file: Path) -> Settings:
    return load_settings(settings_file, {})


@pytest.fixture(scope="session")
def prepared(settings_file: Path) -> None:
    """Tables and queues, made once per run: tests that change them use others, or put them back."""
    asyncio.run(prepare(load_settings(settings_file, {})))


@pytest.fixture
async def bench(
    prepared: None, request: pytest.FixtureRequest, stack: StackStatus, settings: Settings
) -> AsyncIterator[Bench]:
    """The stack, migrated and empty, with what a test needs to publish, look and wait."""
    breaks = request.node.get_closest_marker("faults") is not None  # maybe what was prepared as well
    async with open_bench(stack, settings, prepared=not breaks) as opened:
        yield opened


@pytest.fixture
def run_pipeline(settings_file: Path, tmp_path: Path) -> Callable[..., "contextmanager[PipelineProcess]"]:
    """Return a function that runs `postorder run` with environment overrides, as a context manager."""

    @contextmanager
    def run(
        *arguments: str, program: tuple[str, ...] = ("-m", "consumers"), **overrides: str
    ) -> Iterator[PipelineProcess]:
        variables = {f"POSTORDER_{name.upper()}": value for name, value in overrides.items()}
        log = tmp_path / f"pipeline-{len(list(tmp_path.glob('pipeline-*')))}.log"
        with PipelineProcess(settings_file, log, variables, arguments, program) as process:
            yield process

    return run


@pytest.fixture(scope="module")
def moving_databases(stack: StackStatus, stack_folder: Path) -> Iterator[None]:
    with shard_databases(stack, stack_folder):
        yield


@pytest.fixture
async def moving(
    moving_databases: None, stack: StackStatus, settings_file: Path, tmp_path: Path
) -> AsyncIterator[Moving]:
    """Three shards in databases of their own, as at their beginning."""
    async with moving_shards(stack, settings_file, tmp_path) as shards:
        yield shards
