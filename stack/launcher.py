"""Brings the local stack up and down. Every step can be killed: the next `up` mends what is half done."""

import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path

import msgspec

from stack.errors import StackError
from stack.etcd import client_packages, etcd_program
from stack.ha_servers import HaServers
from stack.launch import Launch
from stack.privileges import Account, unprivileged_account
from stack.process import STOP_TIMEOUT_S, end_component, end_strays
from stack.rabbitmq import server_script
from stack.state import ShardConfig, StackState, load_state, locked, new_state, save_state
from stack.status import StackStatus, status_of

Progress = Callable[[str], None]


class StackConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to bring up. A stack that exists may get more shards; whether it is `ha` stays."""

    data_dir: Path
    ha: bool = False
    shards: tuple[ShardConfig, ...] = (ShardConfig(name="shard0"), ShardConfig(name="shard1"))


def up(config: StackConfig, progress: Progress) -> StackStatus:
    """Start what does not run; return when all of it is ready. Raises StackError."""
    data_dir = config.data_dir.resolve()
    _check_programs(config)  # before anything is made
    with locked(data_dir):
        account = unprivileged_account()
        state = _state_for(data_dir, config, account)
        launch = Launch(data_dir, state, account, progress)
        if not launch.is_done:
            launch.run()
        elif state.shards != list(config.shards):
            launch.reconfigure(list(config.shards))
        return status_of(state, str(data_dir))


def status(data_dir: Path) -> StackStatus | None:
    """Return the status, or None when there is no stack."""
    state = load_state(data_dir.resolve())
    return status_of(state, str(data_dir.resolve())) if state and state.ports else None


def down(data_dir: Path, progress: Progress) -> bool:
    """Stop everything; the data stays. Returns whether anything ran."""
    data_dir = data_dir.resolve()
    if not data_dir.exists():
        return False
    with locked(data_dir):
        return _stop(data_dir, progress)


def reset(data_dir: Path, progress: Progress) -> StackStatus | None:
    """Stop everything and delete all data; start anew if it ran. Returns the new status."""
    data_dir = data_dir.resolve()
    state = load_state(data_dir)
    was_running = down(data_dir, progress)
    if state is None:
        return None
    with locked(data_dir):
        shutil.rmtree(state.server_dir, ignore_errors=True)
        (data_dir / "state.json").unlink(missing_ok=True)
    progress("all data deleted")
    if not was_running:
        return None
    return up(StackConfig(data_dir=data_dir, shards=tuple(state.shards), ha=state.ha), progress)


def _check_programs(config: StackConfig) -> None:
    server_script()
    if config.ha:
        etcd_program()
        client_packages()


def _state_for(data_dir: Path, config: StackConfig, account: Account | None) -> StackState:
    state = load_state(data_dir)
    if state is None:
        state = new_state(_server_dir(data_dir, account), list(config.shards), ha=config.ha)
        shutil.rmtree(state.server_dir, ignore_errors=True)
        save_state(data_dir, state)
    elif len(config.shards) < len(state.shards):
        raise StackError(
            f"the stack in {data_dir} has {len(state.shards)} shards; {len(config.shards)} would lose rows: "
            "delete it with `postorder stack down` and `postorder stack reset`, or use another --data-dir"
        )
    elif config.ha and not state.ha:
        raise StackError(
            f"the stack in {data_dir} was made without --ha: "
            "delete it with `postorder stack down` and `postorder stack reset`, or use another --data-dir"
        )
    if not state.alive or len(config.shards) > len(state.shards):
        state.shards = list(config.shards)
        save_state(data_dir, state)
    return state


def _server_dir(data_dir: Path, account: Account | None) -> Path:
    """Return where the servers keep their data: where the user they run as can get to."""
    inside = data_dir / "servers"
    if account is None or account.can_enter(inside):
        return inside
    return Path("/var/tmp") / f"postorder-{sha256(str(data_dir).encode()).hexdigest()[:12]}"  # noqa: S108  # owned and 0700


def _stop(data_dir: Path, progress: Progress) -> bool:
    state = load_state(data_dir)
    if state is None:
        # Whoever deleted the state file left us to look where a stack would be.
        return bool(end_strays(_server_dir(data_dir, unprivileged_account()), []))
    alive = was_alive = state.alive
    if state.ha and state.ports:
        HaServers(state, unprivileged_account(), lambda _running: None, progress).stop(STOP_TIMEOUT_S)
        alive = state.alive
    # Primaries before replicas, so that the last commits still find theirs; the node before its epmd; etcd
    # when no Patroni needs it.
    last = {name for name in alive if name.endswith("-replica") or name in ("epmd", "etcd")}
    for names in (set(alive) - last, last):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: end_component(name, alive[name]), names))
    state.running = {}
    save_state(data_dir, state)
    strays = end_strays(Path(state.server_dir), [])
    ran = bool(was_alive or strays)
    if ran:
        progress("stack stopped")
    return ran
