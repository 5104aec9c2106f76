"""The stack under Patroni: whatever is killed, the next `up` mends it, and `down` leaves nothing."""

import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError

import psutil
import pytest

from stack.launcher import StackConfig, down, reset, status, up
from stack.process import find_all
from stack.state import ShardConfig, load_state
from stack.status import StackStatus

pytestmark = [
    pytest.mark.faults,
    pytest.mark.timeout(180),
    pytest.mark.fault(57, "launcher, Patroni or etcd killed while the stack starts or runs", ["I29"]),
]

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


def bring_up(folder: Path) -> StackStatus:
    return up(StackConfig(data_dir=folder / "stack", shards=ONE, ha=True), quiet)


def servers_of(folder: Path) -> list[int]:
    state = load_state(folder / "stack")
    return [server.pid for server in find_all(Path(state.server_dir))] if state else []


@pytest.mark.parametrize("moment", ["starting etcd", "making shard0", "RabbitMQ is ready"])
def test_a_killed_launcher_leaves_nothing_that_the_next_start_cannot_mend(folder: Path, moment: str) -> None:
    down(folder / "stack", quiet)
    reset(folder / "stack", quiet)
    command = [sys.executable, "-m", "stack", "up", "--ha", "--shards", "1", "--data-dir", folder / "stack"]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if moment in line:
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert bring_up(folder).running
    down(folder / "stack", quiet)
    assert servers_of(folder) == []


def test_what_was_killed_is_started_again_and_postgresql_goes_on_meanwhile(folder: Path) -> None:
    before = bring_up(folder)
    [shard] = before.shards
    for name in ("shard0-a", "shard0-b", "etcd"):
        psutil.Process(before.pids[name]).kill()
    after = bring_up(folder)
    assert after.running
    assert [member.pid for member in after.shards[0].members] == [member.pid for member in shard.members]
    assert after.shards[0].primary_dsn == shard.primary_dsn


def test_a_second_start_changes_nothing_and_down_brings_the_data_back(folder: Path) -> None:
    first = bring_up(folder)
    assert bring_up(folder).pids == first.pids
    assert down(folder / "stack", quiet)
    assert servers_of(folder) == []
    assert status(folder / "stack").running is False
    again = up(StackConfig(data_dir=folder / "stack", shards=ONE), quiet)  # it stays what it was made as
    assert again.running
    assert sorted(member.role for member in again.shards[0].members) == ["leader", "sync_standby"]


def test_neither_etcd_nor_patroni_take_orders_without_a_password(folder: Path) -> None:
    found = bring_up(folder)
    etcd = f"http://127.0.0.1:{load_state(folder / 'stack').ports['etcd']}/v3/kv/range"
    switchover = f"{found.shards[0].members[0].api_url}/switchover"
    for url, body in (
        (etcd, b'{"key": "AA==", "range_end": "AA=="}'),
        (switchover, b'{"leader": "shard0-a"}'),
    ):
        with pytest.raises(HTTPError) as refused:
            urllib.request.urlopen(urllib.request.Request(url, body), timeout=5)
        with refused.value as answer:
            assert answer.code in (400, 401, 403)
            assert b"user name is empty" in (text := answer.read()) or b"auth" in text.lower() or not text
    for pid in found.pids.values():
        listening = [c for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert {connection.laddr.ip for connection in listening} <= {"127.0.0.1", "::1"}


def test_what_a_commit_waits_for_is_changed_while_it_runs(folder: Path) -> None:
    bring_up(folder)
    strict = (ShardConfig(name="shard0", synchronous_commit="remote_apply", strict=True),)
    up(StackConfig(data_dir=folder / "stack", shards=strict, ha=True), quiet)
    api = f"{status(folder / 'stack').shards[0].members[0].api_url}/config"
    with urllib.request.urlopen(api, timeout=5) as answer:
        text = answer.read().decode()
    assert '"synchronous_mode_strict": true' in text
    assert '"synchronous_commit": "remote_apply"' in text
