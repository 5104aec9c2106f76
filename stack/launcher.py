"""Brings the local stack up and down. Every step can be killed: the next `up` mends what is half done."""

import shutil
import signal
import sys
import urllib.request
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from threading import Lock
from urllib.error import URLError

import msgspec

from stack.errors import StackError
from stack.ports import HOST, choose_port
from stack.postgres import Pair, binaries, copy_binaries
from stack.privileges import Account, unprivileged_account
from stack.process import Running, end, end_strays, spawn, wait_until
from stack.rabbitmq import RabbitNode, server_script
from stack.state import ShardConfig, StackState, load_state, locked, new_state, save_state
from stack.status import StackStatus, component_names, status_of

Progress = Callable[[str], None]

_STOP_TIMEOUT_S = 20.0
_EMULATOR_TIMEOUT_S = 30.0
_PROGRAMS = {"smtp_sink": "stack.smtp.sink", "twilio_emulator": "stack.twilio.emulator"}


class StackConfig(msgspec.Struct, frozen=True, kw_only=True):
    """What to bring up. A stack that exists keeps the shards it was made with."""

    data_dir: Path
    shards: tuple[ShardConfig, ...] = (ShardConfig(name="shard0"), ShardConfig(name="shard1"))


def up(config: StackConfig, progress: Progress) -> StackStatus:
    """Start what does not run; return when all of it is ready. Raises StackError."""
    data_dir = config.data_dir.resolve()
    server_script()  # before anything is made
    with locked(data_dir):
        account = unprivileged_account()
        state = _state_for(data_dir, config, account)
        launch = _Launch(data_dir, state, account, progress)
        if set(state.alive) != set(component_names(state)):
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
    return up(StackConfig(data_dir=data_dir, shards=tuple(state.shards)), progress)


def _state_for(data_dir: Path, config: StackConfig, account: Account | None) -> StackState:
    state = load_state(data_dir)
    if state is None:
        state = new_state(_server_dir(data_dir, account), list(config.shards))
        shutil.rmtree(state.server_dir, ignore_errors=True)
        save_state(data_dir, state)
    elif [shard.name for shard in state.shards] != [shard.name for shard in config.shards]:
        raise StackError(
            f"the stack in {data_dir} has {len(state.shards)} shards, not {len(config.shards)}: "
            "delete it with `postorder stack down` and `postorder stack reset`, or use another --data-dir"
        )
    if not state.alive:
        state.shards = list(config.shards)
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
    alive = state.alive
    last = {name for name in alive if name.endswith("-replica") or name == "epmd"}
    # Primaries before replicas, so that the last commits still find theirs; the node before its epmd.
    for names in (set(alive) - last, last):
        with ThreadPoolExecutor() as pool:
            list(pool.map(lambda name: _end(name, alive[name]), names))
    state.running = {}
    save_state(data_dir, state)
    strays = end_strays(Path(state.server_dir), [])
    if alive or strays:
        progress("stack stopped")
    return bool(alive or strays)


def _end(name: str, server: Running) -> None:
    # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for its clients.
    how = signal.SIGINT if name.endswith(("-primary", "-replica")) else signal.SIGTERM
    end(server, how=how, timeout_s=_STOP_TIMEOUT_S)


class _Launch:
    """One run of `up`."""

    def __init__(
        self, data_dir: Path, state: StackState, account: Account | None, progress: Progress
    ) -> None:
        self._data_dir = data_dir
        self._state = state
        self._account = account
        self._progress = progress
        self._servers = Path(state.server_dir)
        self._noting = Lock()  # components start in threads side by side

    def run(self) -> None:
        # A launcher that was killed may have left servers that the state does not know.
        strays = end_strays(self._servers, list(self._state.alive.values()))
        if strays:
            self._progress(f"killed {strays} processes that an earlier start had left")
        self._prepare_folder()
        self._choose_ports()
        node = self._rabbit_node()
        with ThreadPoolExecutor() as pool:
            rabbit = pool.submit(self._start_rabbit, node)
            pairs = [pool.submit(self._start_pair, self._pair(shard)) for shard in self._state.shards]
            emulators = [pool.submit(self._start_emulator, name) for name in ("smtp_sink", "twilio_emulator")]
            for future in (rabbit, *pairs, *emulators):
                future.result()

    def reconfigure(self, shards: list[ShardConfig]) -> None:
        """Apply other settings to pairs that run."""
        self._state.shards = shards
        save_state(self._data_dir, self._state)
        for shard in shards:
            self._pair(shard).reconfigure(self._state.alive[f"{shard.name}-primary"])
            self._progress(f"{shard.name}: settings applied")

    def _prepare_folder(self) -> None:
        self._servers.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account:
            self._servers.chmod(0o700)
            # Only the folder itself: what is in it has been handed over piece by piece.
            shutil.chown(self._servers, self._account.uid, self._account.gid)

    def _choose_ports(self) -> None:
        """Choose a port for each component that does not run; the others keep theirs."""
        owners = {
            "amqp": "rabbitmq",
            "amqp_dist": "rabbitmq",
            "epmd": "epmd",
            "smtp": "smtp_sink",
            "smtp_api": "smtp_sink",
            "twilio": "twilio_emulator",
        }
        for shard in self._state.shards:
            owners |= {f"{shard.name}-{role}": f"{shard.name}-{role}" for role in ("primary", "replica")}
        alive = self._state.alive
        ports = {name: self._state.ports[name] for name, owner in owners.items() if owner in alive}
        for name in owners:
            if name not in ports:
                ports[name] = choose_port(name, set(ports.values()), self._state.ports.get(name))
        self._state.ports = ports
        save_state(self._data_dir, self._state)

    def _note(self, running: dict[str, Running]) -> None:
        with self._noting:
            self._state.running = {**self._state.running, **running}
            save_state(self._data_dir, self._state)

    def _is_up(self, name: str) -> bool:
        return name in self._state.alive

    # --- RabbitMQ ---------------------------------------------------------------------------------

    def _rabbit_node(self) -> RabbitNode:
        return RabbitNode(
            self._servers / "rabbitmq",
            ports=self._state.ports,
            password=self._state.secrets["amqp"],
            cookie=self._state.secrets["erlang_cookie"],
            account=self._account,
        )

    def _start_rabbit(self, node: RabbitNode) -> None:
        if self._is_up("rabbitmq") and self._is_up("epmd"):
            return
        if self._is_up("rabbitmq"):
            # A node whose name server is gone cannot be found by its own tools.
            end(self._state.alive["rabbitmq"])
        self._progress("starting RabbitMQ")
        node.prepare()
        if not self._is_up("epmd"):
            self._note({"epmd": node.start_epmd()})
        server = node.start()
        self._note({"rabbitmq": server})
        node.wait(server)
        self._progress(f"RabbitMQ is ready on port {self._state.ports['amqp']}")

    # --- PostgreSQL -------------------------------------------------------------------------------

    def _pair(self, shard: ShardConfig) -> Pair:
        return Pair(
            shard.name,
            self._servers / shard.name,
            ports=self._state.ports,
            passwords=self._state.secrets,
            bin_folder=self._programs(),
            account=self._account,
            synchronous_commit=shard.synchronous_commit,
            synchronous=shard.synchronous,
        )

    def _programs(self) -> Path:
        found = binaries()
        if self._account is None or self._account.can_enter(found / "postgres"):
            return found
        copied = copy_binaries(self._servers / "programs")
        self._account.take(self._servers / "programs")
        return copied

    def _start_pair(self, pair: Pair) -> None:
        names = [f"{pair.name}-{role}" for role in ("primary", "replica")]
        alive = self._state.alive
        if all(name in alive for name in names):
            return
        for name in names:
            # One without the other starts anew with it: their ports may have to change together.
            if name in alive:
                _end(name, alive[name])
        if not pair.is_complete:
            self._progress(f"making {pair.name}: a primary and its replica")
            pair.make()
        self._progress(f"starting {pair.name}")
        self._note(pair.start())
        self._progress(f"{pair.name} is ready on port {self._state.ports[names[0]]}, replica streaming")

    # --- stand-ins for the world outside ----------------------------------------------------------

    def _start_emulator(self, name: str) -> None:
        if self._is_up(name):
            return
        ports = self._state.ports
        arguments = {
            "smtp_sink": ["--port", ports["smtp"], "--api-port", ports["smtp_api"]],
            "twilio_emulator": ["--port", ports["twilio"], "--account-sid", self._state.account_sid],
        }[name]
        api_port = ports["smtp_api"] if name == "smtp_sink" else ports["twilio"]
        folder = self._servers / name
        folder.mkdir(mode=0o700, exist_ok=True)
        # Python and its packages may lie where only root can read; these two do not mind root.
        account = self._account if self._account and self._python_is_readable(self._account) else None
        if account:
            account.take(folder)
        log = folder / "output.log"
        server = spawn(
            [sys.executable, "-m", _PROGRAMS[name], "--host", HOST, *map(str, arguments)],
            folder=folder,
            log=log,
            environment={
                "TWILIO_AUTH_TOKEN": self._state.secrets["twilio"],
                "PYTHONPATH": str(Path(__file__).parents[1]),
                "PYTHONDONTWRITEBYTECODE": "1",
            },
            account=account,
        )
        self._note({name: server})
        url = f"http://{HOST}:{api_port}/_control/health"
        wait_until(lambda: _is_healthy(url), what=name, log=log, server=server, timeout_s=_EMULATOR_TIMEOUT_S)
        self._progress(f"{name} is ready on port {arguments[1]}")

    @staticmethod
    def _python_is_readable(account: Account) -> bool:
        return account.can_enter(Path(sys.executable).resolve()) and account.can_enter(Path(__file__))


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310  # our own loopback URL
            return bool(answer.status == 200)  # noqa: PLR2004
    except (URLError, OSError):
        return False
