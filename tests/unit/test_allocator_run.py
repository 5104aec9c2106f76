"""What `--workers` takes, and the bounds that follow from settings."""

import os
from pathlib import Path

import msgspec
import pytest

from consumers.allocator.run import SupervisorProcess, bounds_of, usable_cpus, wanted_workers
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.settings import OpsSettings, Settings, load_settings
from pipeline.settings.allocator import AllocatorSettings

SHARDS = '[[shards]]\nname = "s0"\nprimary = "postgresql://u@127.0.0.1:9/x"\n'


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    path = tmp_path / "postorder.toml"
    path.write_text(SHARDS)
    return load_settings(path, {})


@pytest.mark.parametrize(("text", "wanted"), [("auto", None), ("1", 1), ("64", 64)])
def test_a_number_or_auto(text: str, wanted: int | None) -> None:
    assert wanted_workers(text) == wanted


@pytest.mark.parametrize("text", ["", "0", "65", "-1", "2.5", "AUTO", "²", "٣"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(SettingsError, match="must be auto or a number from 1 to 64"):
        wanted_workers(text)


def test_what_only_listens_is_one_process(settings: Settings) -> None:
    with pytest.raises(SettingsError, match="public listens on one port"):
        SupervisorProcess(settings, frozenset({Role.PUBLIC}), Path("x"), 2)


def test_each_worker_needs_a_port_after_the_supervisors(settings: Settings) -> None:
    high = msgspec.structs.replace(settings, ops=OpsSettings(metrics_port=65_530))
    with pytest.raises(SettingsError, match="more than there are"):
        SupervisorProcess(high, frozenset({Role.ORDERS}), Path("x"), 6)
    SupervisorProcess(high, frozenset({Role.ORDERS}), Path("x"), 5)


def test_what_listens_runs_in_the_first_worker_only(settings: Settings) -> None:
    process = SupervisorProcess(settings, frozenset(Role), Path("x"), 2)
    first, second = (process._new_worker(number, print)._spec for number in (1, 2))
    assert set(first.roles) == set(Role)
    assert Role.PUBLIC in set(first.roles) - set(second.roles)
    assert {Role.ORDERS, Role.NOTIFICATIONS} <= set(second.roles)


def test_the_ceiling_of_workers_is_that_of_the_cpus_unless_it_is_set(settings: Settings) -> None:
    assert bounds_of(settings).ceiling.workers == usable_cpus()
    many = msgspec.structs.replace(settings, allocator=AllocatorSettings(workers_min=70 - 10))
    assert bounds_of(many).ceiling.workers >= 60
    some = msgspec.structs.replace(settings, allocator=AllocatorSettings(workers_max=3))
    assert bounds_of(some).ceiling.workers == 3


@pytest.mark.parametrize(
    ("quota", "most"),
    [("200000 100000", 2), ("50000 100000", 1), ("max 100000", 99), ("rubbish", 99), (None, 99)],
)
def test_cpus_are_those_of_the_group_too(tmp_path: Path, quota: str | None, most: int) -> None:
    path = tmp_path / "cpu.max"
    if quota is not None:
        path.write_text(quota)
    assert usable_cpus(path) == min(most, len(os.sched_getaffinity(0)))


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (
            "workers_min = 5\nworkers_max = 3",
            "allocator.workers_min: must not be more than allocator.workers_max",
        ),
        ("prefetch_min = 9000", "allocator.prefetch_min: must not be more than allocator.prefetch_max"),
        ("batch_min = 2000", "allocator.batch_min: must not be more than allocator.batch_max"),
        ("cpu_low = 0.9", "allocator.cpu_low: must not be more than allocator.cpu_high"),
        ("workers_max = 65", "allocator.workers_max"),
        ("cpu_high = 1.5", "allocator.cpu_high"),
        ("prefetch_max = 70000", "allocator.prefetch_max"),
    ],
)
def test_bounds_that_contradict_each_other_are_named(tmp_path: Path, line: str, problem: str) -> None:
    path = tmp_path / "postorder.toml"
    path.write_text(f"{SHARDS}[allocator]\n{line}\n")
    with pytest.raises(SettingsError, match=problem):
        load_settings(path, {})


def test_what_nobody_decides_is_not_served(settings: Settings) -> None:
    """With a fixed number of workers nobody looks: a prefetch, or a backlog, of 0 would be untrue."""
    served = {}
    for workers in (2, None):
        process = SupervisorProcess(settings, frozenset({Role.ORDERS}), Path("x"), workers)
        page, _ = process._registry.page("")
        served[workers] = {line.split("{")[0].split(" ")[0] for line in page.decode().splitlines()} - {"#"}
    assert served[2] == {"postorder_allocator_workers", "postorder_worker_restarts_total"}
    assert served[None] > served[2] | {"postorder_allocator_prefetch", "postorder_allocator_work_seconds"}
