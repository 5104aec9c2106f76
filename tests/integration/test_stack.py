"""The local stack: whatever is killed, the next `up` mends it, and `down` leaves nothing."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from stack.errors import StackError
from stack.launcher import StackConfig, down, reset, status, up
from stack.process import find_all
from stack.state import ShardConfig, load_state
from stack.status import StackStatus

pytestmark = pytest.mark.integration

ONE = (ShardConfig(name="shard0"),)


def quiet(_text: str) -> None:
    pass


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    """A folder that an unprivileged user can get to, as a clone outside of /root is."""
    made = Path(tempfile.mkdtemp(prefix="postorder-test-"))
    made.chmod(0o755)
    yield made
    down(made / "stack", quiet)
    reset(made / "stack", quiet)
    shutil.rmtree(made)


@pytest.fixture
def running(folder: Path) -> StackStatus:
    return up(StackConfig(data_dir=folder / "stack", shards=ONE), quiet)


def bring_up(folder: Path) -> StackStatus:
    return up(StackConfig(data_dir=folder / "stack", shards=ONE), quiet)


def launcher(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "stack", "up", "--shards", "1", "--data-dir", str(folder / "stack")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )


async def value(dsn: str, query: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


def servers_of(folder: Path) -> list[int]:
    state = load_state(folder / "stack")
    return [server.pid for server in find_all(Path(state.server_dir))] if state else []


def test_the_status_has_every_endpoint(running: StackStatus, folder: Path) -> None:
    assert running.running
    assert running.amqp_url.startswith("amqp://postorder:")
    assert [shard.name for shard in running.shards] == ["shard0"]
    assert set(running.pids) == set(running.components)
    assert all(psutil.pid_exists(pid) for pid in running.pids.values())
    assert running.twilio.account_sid.startswith("AC")
    assert running.data_dir == str((folder / "stack").resolve())
    assert status(folder / "stack") == running


def test_nothing_listens_beyond_loopback_and_secrets_are_private(running: StackStatus, folder: Path) -> None:
    for pid in running.pids.values():
        listening = [c for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::1"}
    assert (folder / "stack/state.json").stat().st_mode & 0o077 == 0


async def test_a_commit_waits_for_a_streaming_replica(running: StackStatus) -> None:
    primary = running.shards[0].primary_dsn
    replica = running.shards[0].replica_dsn
    assert (
        await value(primary, "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'") == "sync"
    )
    assert (
        await value(primary, "SELECT active FROM pg_replication_slots WHERE slot_type = 'physical'") is True
    )
    assert await value(primary, "SHOW synchronous_commit") == "on"
    assert await value(primary, "SHOW data_checksums") == "on"
    assert await value(primary, "SHOW fsync") == "on"
    assert await value(replica, "SELECT pg_is_in_recovery()") is True
    if os.geteuid() == 0:
        assert psutil.Process(running.pids["shard0-primary"]).uids().effective != 0


async def test_what_a_commit_waits_for_can_be_chosen_per_shard(running: StackStatus, folder: Path) -> None:
    loose = (ShardConfig(name="shard0", synchronous_commit="local", synchronous=False),)
    changed = up(StackConfig(data_dir=folder / "stack", shards=loose), quiet)
    assert changed.pids == running.pids
    assert await value(running.shards[0].primary_dsn, "SHOW synchronous_commit") == "local"
    assert await value(running.shards[0].primary_dsn, "SHOW synchronous_standby_names") == ""
    bring_up(folder)
    assert await value(running.shards[0].primary_dsn, "SHOW synchronous_commit") == "on"


def test_starting_twice_changes_nothing(running: StackStatus, folder: Path) -> None:
    assert bring_up(folder) == running


@pytest.mark.parametrize(
    "names",
    [("shard0-primary", "rabbitmq", "smtp_sink"), ("shard0-replica", "epmd", "twilio_emulator")],
    ids=["primary, node, sink", "replica, name server, emulator"],
)
def test_what_was_killed_is_started_again(running: StackStatus, folder: Path, names: tuple[str, ...]) -> None:
    processes = [psutil.Process(running.pids[name]) for name in names]
    for process in processes:
        process.kill()
    psutil.wait_procs(processes, timeout=10)
    found = status(folder / "stack")
    assert found is not None
    assert not found.running
    assert {name for name, state in found.components.items() if state == "down"} >= set(names)
    again = bring_up(folder)
    assert again.running
    assert all(again.pids[name] != running.pids[name] for name in names)


@pytest.fixture
def bystander(running: StackStatus, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process that only stands in the servers' folder."""
    state = load_state(folder / "stack")
    assert state is not None
    with subprocess.Popen(["sleep", "60"], cwd=state.server_dir) as process:
        yield process
        process.kill()


def test_down_leaves_no_process_of_ours_and_up_takes_a_free_port_for_one_that_is_taken(
    running: StackStatus, folder: Path, bystander: subprocess.Popen[bytes]
) -> None:
    assert servers_of(folder)
    assert down(folder / "stack", quiet)
    assert servers_of(folder) == []
    assert not down(folder / "stack", quiet)
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", running.smtp.port))
        taken.listen()
        again = bring_up(folder)
    assert again.smtp.port != running.smtp.port
    assert (again.amqp_url, again.shards) == (running.amqp_url, running.shards)
    assert bystander.poll() is None


def test_what_killed_launchers_left_is_mended_by_two_that_come_at_once(folder: Path) -> None:
    """Each begins with what the one before it has left half done; the last two make one stack of it."""
    down(folder / "stack", quiet)
    reset(folder / "stack", quiet)
    for moment in ("starting RabbitMQ", "making shard0", "starting shard0", "is ready on port"):
        with launcher(folder) as process:
            assert process.stderr
            for line in process.stderr:
                if moment in line:
                    process.send_signal(signal.SIGKILL)
                    break
        # After its last word it may have ended before the signal came.
        ended = (-signal.SIGKILL, 0) if moment == "is ready on port" else (-signal.SIGKILL,)
        assert process.returncode in ended, moment
    with launcher(folder) as first, launcher(folder) as second:
        assert (first.wait(timeout=60), second.wait(timeout=60)) == (0, 0)
    found = status(folder / "stack")
    assert found is not None
    assert found.running


def test_a_stack_may_get_more_shards_but_not_fewer(folder: Path) -> None:
    """What runs goes on running: the first shard's servers are the same processes."""
    two = (*ONE, ShardConfig(name="shard1"))
    before = bring_up(folder)
    after = up(StackConfig(data_dir=folder / "stack", shards=two), quiet)
    assert [shard.name for shard in after.shards] == ["shard0", "shard1"]
    assert after.running
    assert before.pids.items() < after.pids.items()
    with pytest.raises(StackError, match="has 2 shards; 1 would lose rows"):
        bring_up(folder)


def test_where_only_root_can_go_the_servers_live_elsewhere(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("privileges are dropped only by root")
    tmp_path.chmod(0o700)
    try:
        found = up(StackConfig(data_dir=tmp_path / "stack", shards=ONE), quiet)
        state = load_state(tmp_path / "stack")
        assert state is not None
        assert found.running
        assert not state.server_dir.startswith(str(tmp_path))
        assert Path(state.server_dir).stat().st_mode & 0o077 == 0
    finally:
        down(tmp_path / "stack", quiet)
        reset(tmp_path / "stack", quiet)
    assert not Path(state.server_dir).exists()
