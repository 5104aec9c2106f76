"""What a process and those it started use."""

import subprocess
import sys
from collections.abc import Iterator

import pytest

from loadtest.cpu_account import rss_mb

HOLDS_50_MB = "held = bytearray(b'x' * 50_000_000); print('held', flush=True); input()"
STARTS_ANOTHER = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {HOLDS_50_MB!r}])"


@pytest.fixture
def supervisor() -> Iterator[subprocess.Popen[str]]:
    """A process that holds little itself, and has a worker that holds 50 MB."""
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ANOTHER], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        yield process
        process.communicate("end\n", timeout=10)


def test_memory_is_that_of_the_workers_too(supervisor: subprocess.Popen[str]) -> None:
    assert rss_mb(supervisor.pid) > 50


def test_a_process_that_is_gone_uses_none() -> None:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait(timeout=10)
    assert rss_mb(process.pid) == 0
