"""What the stack remembers between commands, in one file that is replaced whole."""

import fcntl
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from stack.errors import StackError
from stack.files import write_private
from stack.process import Running

_FILE = "state.json"
_LOCK = "lock"
_POLL_S = 0.1


class ShardConfig(msgspec.Struct, frozen=True, kw_only=True):
    """One PostgreSQL pair. `synchronous`: commits wait for the replica, as `synchronous_commit` says.

    `strict`: under Patroni, they wait also while there is no replica. A plain pair is always strict.
    """

    name: str
    synchronous_commit: str = "on"
    synchronous: bool = True
    strict: bool = False


class StackState(msgspec.Struct, kw_only=True):
    """Everything that must be the same at the next start, and which processes run."""

    server_dir: str
    shards: list[ShardConfig]
    account_sid: str
    secrets: dict[str, str]
    ha: bool = False
    ports: dict[str, int] = {}
    running: dict[str, Running] = {}

    @property
    def alive(self) -> dict[str, Running]:
        """The processes that still run."""
        return {name: server for name, server in self.running.items() if server.is_alive}


def new_state(server_dir: Path, shards: list[ShardConfig], *, ha: bool = False) -> StackState:
    """Return the state of a stack that was never started, with fresh secrets."""
    names = ["postgres", "postorder", "replicator", "amqp", "erlang_cookie", "twilio"]
    names += ["etcd_root", "etcd", "patroni"] if ha else []
    return StackState(
        server_dir=str(server_dir),
        shards=shards,
        account_sid="AC" + secrets.token_hex(16),
        ha=ha,
        secrets={name: secrets.token_hex(16) for name in names},
    )


def load_state(data_dir: Path) -> StackState | None:
    """Read the state; None when there is none, or none that can be used."""
    try:
        return msgspec.json.decode((data_dir / _FILE).read_bytes(), type=StackState)
    except FileNotFoundError:
        return None
    except msgspec.DecodeError:
        return None  # of another version: made anew


def save_state(data_dir: Path, state: StackState) -> None:
    """Replace the state file in one step: whoever is killed meanwhile leaves the old one or the new one."""
    write_private(data_dir / _FILE, msgspec.json.format(msgspec.json.encode(state)).decode())


@contextmanager
def locked(data_dir: Path, timeout_s: float = 120.0) -> Iterator[None]:
    """Keep other commands off the stack. The lock ends with the process that holds it."""
    data_dir.mkdir(parents=True, exist_ok=True)
    with (data_dir / _LOCK).open("w", encoding="utf-8") as file:
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise StackError(f"another command has been at {data_dir} for {timeout_s:g} s") from None
                time.sleep(_POLL_S)
        yield
