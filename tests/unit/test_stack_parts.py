"""Parts of the stack that need no server."""

import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from consumers.stack_commands import StackCommandError, shard_configs
from stack.components import component_names, port_owners, server_names
from stack.errors import StackError
from stack.etcd import _end_of
from stack.files import write_private
from stack.ha import views_of
from stack.launcher import StackConfig, _state_for
from stack.patroni import cluster_settings
from stack.patroni_api import PatroniApi
from stack.ports import Reservations, choose_port, is_free, preferred_port
from stack.privileges import Account
from stack.process import MARKER, Running, end, find_all, run, spawn, wait_until
from stack.state import ShardConfig, load_state, locked, new_state, save_state

DEFAULT_PORTS = {5672, 15672, 4369, 25672, 5432, 25, 465, 587, 80, 443, 8080, 9090}


def test_preferred_ports_keep_away_from_the_defaults_and_from_each_other() -> None:
    names = [*("amqp", "amqp_dist", "epmd", "smtp", "smtp_api", "twilio")]
    names += [f"shard{number}-{role}" for number in range(64) for role in ("primary", "replica")]
    names += ["etcd", "etcd_peer"]
    names += [f"shard{number}-{letter}-api" for number in range(64) for letter in "ab"]
    ports = [preferred_port(name) for name in names]
    assert len(set(ports)) == len(ports)
    assert not DEFAULT_PORTS & set(ports)
    assert max(ports) < first_outgoing_port()  # else whoever waits for a server may be connected to himself


def first_outgoing_port() -> int:
    return int(Path("/proc/sys/net/ipv4/ip_local_port_range").read_text().split()[0])


def test_a_taken_port_gives_way_to_a_free_one() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        assert not is_free(port)
        chosen = choose_port("amqp", {preferred_port("amqp")}, before=port)
        assert chosen not in (port, preferred_port("amqp"))
        assert chosen < first_outgoing_port()


def test_two_launchers_at_the_same_moment_choose_different_ports(tmp_path: Path) -> None:
    """Neither has a server on its ports yet, so that both find each of them free."""
    program = (
        "import sys; from stack.ports import Reservations, choose_port\n"
        "with Reservations() as reserved:\n"
        "    for name in sys.argv[1:]: print(choose_port(name, set(), None, reserved), flush=True)\n"
        "    sys.stdin.read()"
    )
    names = ["amqp", "smtp", *(f"shard{n}-{role}" for n in range(20) for role in ("primary", "replica"))]
    arguments = [sys.executable, "-c", program, *names]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(arguments, **pipes) as first, subprocess.Popen(arguments, **pipes) as second:
        chosen = [[int(launcher.stdout.readline()) for _ in names] for launcher in (first, second)]
        assert set(chosen[0]).isdisjoint(chosen[1])
        for launcher in (first, second):
            launcher.stdin.close()
    assert (first.returncode, second.returncode) == (0, 0)


def test_a_reserved_port_can_be_had_again_afterwards() -> None:
    with Reservations() as reserved:
        port = choose_port("amqp", set(), None, reserved)
        assert is_free(port)  # for the server that it is meant for
        assert not Reservations().take(port)
    with Reservations() as later:
        assert later.take(port)


def test_the_state_survives_and_an_unreadable_one_counts_as_none(tmp_path: Path) -> None:
    assert load_state(tmp_path) is None
    state = new_state(tmp_path / "servers", [ShardConfig(name="shard0")])
    save_state(tmp_path, state)
    assert load_state(tmp_path) == state
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600
    (tmp_path / "state.json").write_text('{"of": "another version"}')
    assert load_state(tmp_path) is None


def test_a_private_file_is_replaced_whatever_its_mode_was(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text("old")
    path.chmod(0o444)
    write_private(path, "new")
    assert (path.read_text(), path.stat().st_mode & 0o777) == ("new", 0o600)


def test_two_commands_do_not_work_on_one_stack_at_once(tmp_path: Path) -> None:
    with (
        locked(tmp_path),
        pytest.raises(StackError, match="another command"),
        locked(tmp_path, timeout_s=0.2),
    ):
        pass


def test_a_later_process_with_the_same_pid_is_not_ours() -> None:
    assert not Running(os.getpid(), time.time() - 86_400).is_alive


def test_a_server_is_found_by_its_environment_and_ended(tmp_path: Path) -> None:
    folder = tmp_path / "servers" / "one"
    folder.mkdir(parents=True)
    program = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print('up', flush=True); time.sleep(60)"
    )
    log = tmp_path / "log"
    server = spawn([sys.executable, "-c", program], folder=folder, log=log, environment={}, account=None)
    wait_until(lambda: "up" in log.read_text(), what="it", log=log, server=server, timeout_s=10)
    assert [found.pid for found in find_all(tmp_path / "servers")] == [server.pid]
    assert find_all(tmp_path / "serv") == []
    end(server, timeout_s=0.2)  # it does not listen to SIGTERM, so it is killed
    assert not server.is_alive
    assert find_all(tmp_path / "servers") == []


def test_a_server_that_ends_while_starting_gives_its_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    program = "print('disk on fire'); raise SystemExit(3)"
    server = spawn([sys.executable, "-c", program], folder=tmp_path, log=log, environment={}, account=None)
    with pytest.raises(StackError, match="disk on fire"):
        wait_until(lambda: False, what="it", log=log, server=server, timeout_s=10)


def test_a_program_that_fails_is_quoted_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"^\S+ failed \(1\): ValueError: no$"):
        run([sys.executable, "-c", "raise ValueError('no')"], folder=tmp_path, account=None)


def test_our_own_environment_does_not_reach_the_servers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PGPASSWORD", "of the user")
    shown = run([sys.executable, "-c", "import os; print(sorted(os.environ))"], folder=tmp_path, account=None)
    assert "PGPASSWORD" not in shown
    assert MARKER in shown


def test_who_can_enter_where(tmp_path: Path) -> None:
    inside = tmp_path / "closed" / "inside"
    inside.mkdir(parents=True)
    (tmp_path / "closed").chmod(0o700)
    owner = Account("owner", os.getuid(), os.getgid())
    stranger = Account("stranger", 54_321, 54_321)
    assert owner._may_search(tmp_path / "closed")
    assert not stranger.can_enter(inside)
    (tmp_path / "closed").chmod(0o711)
    assert stranger._may_search(tmp_path / "closed")


def test_options_for_single_shards() -> None:
    first, second = shard_configs(2, ["shard0=remote_apply"], ["shard1"], ["shard0"])
    assert (first.synchronous_commit, first.synchronous, first.strict) == ("remote_apply", True, True)
    assert (second.synchronous_commit, second.synchronous, second.strict) == ("on", False, False)
    for options in (
        (["shard2=on"], [], []),
        (["shard0=maybe"], [], []),
        ([], ["nope"], []),
        ([], [], ["no"]),
    ):
        with pytest.raises(StackCommandError):
            shard_configs(2, *options)


def test_members_under_patroni_have_the_ports_of_primary_and_replica() -> None:
    for number in range(3):
        pairs = zip(
            server_names(f"shard{number}", ha=True), server_names(f"shard{number}", ha=False), strict=True
        )
        assert all(preferred_port(member) == preferred_port(server) for member, server in pairs)


def test_every_port_has_an_owner_that_is_a_component(tmp_path: Path) -> None:
    for ha in (False, True):
        state = new_state(tmp_path, [ShardConfig(name="shard0"), ShardConfig(name="shard1")], ha=ha)
        assert set(port_owners(state).values()) == set(component_names(state))


def test_a_stack_made_without_patroni_is_not_turned_into_one_with(tmp_path: Path) -> None:
    save_state(tmp_path, new_state(tmp_path / "servers", [ShardConfig(name="shard0")]))
    with pytest.raises(StackError, match="was made without --ha"):
        _state_for(
            tmp_path, StackConfig(data_dir=tmp_path, shards=(ShardConfig(name="shard0"),), ha=True), None
        )


def test_the_locks_life_covers_what_patroni_must_do_in_it() -> None:
    cluster = cluster_settings(synchronous=True, strict=True, synchronous_commit="on")
    assert cluster["loop_wait"] + 2 * cluster["retry_timeout"] <= cluster["ttl"]
    assert (cluster["synchronous_mode"], cluster["synchronous_mode_strict"]) == (True, True)
    loose = cluster_settings(synchronous=False, strict=True, synchronous_commit="local")
    assert (loose["synchronous_mode"], loose["synchronous_mode_strict"]) == (False, False)


def test_a_patroni_that_does_not_answer_knows_no_members() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        api = PatroniApi("shard0-a", nobody.getsockname()[1], "secret")
        assert views_of([api, api]) == []
        with pytest.raises(StackError, match="shard0-a does not answer"):
            api.switch_over("shard0-a", "shard0-b")


def test_the_end_of_a_prefix_is_behind_all_its_keys() -> None:
    assert _end_of("/postorder/") == "/postorder0"


@pytest.mark.parametrize("command", ["up", "down", "reset", "status"])
def test_a_folder_that_cannot_be_is_one_line(tmp_path: Path, command: str) -> None:
    (tmp_path / "file").write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "consumers", "stack", command, "--data-dir", str(tmp_path / "file")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
