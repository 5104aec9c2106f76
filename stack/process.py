"""Servers as processes: started detached, known by pid and start time, ended for certain."""

import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import msgspec
import psutil

from stack.errors import StackError
from stack.privileges import Account

MARKER = "POSTORDER_STACK_DIR"
"""Environment variable of every server started here: its stack's folder."""

STOP_TIMEOUT_S = 20.0
"""How long a server may take to stop before it is killed."""

_POLL_S = 0.02
_SAME_START_S = 0.05


class Running(msgspec.Struct, frozen=True):
    """A process, such that a later one with the same pid is not mistaken for it."""

    pid: int
    started_at: float

    @property
    def is_alive(self) -> bool:
        """Whether it still runs."""
        process = self.process()
        return process is not None

    def process(self) -> psutil.Process | None:
        """Return the process, or None when it has ended."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.started_at) < _SAME_START_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.NoSuchProcess:
            return None


def spawn(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    log: Path,
    environment: Mapping[str, str],
    account: Account | None,
) -> Running:
    """Start a server in a session of its own, so that it outlives us and Ctrl-C does not reach it."""
    with log.open("ab") as output:
        if account:
            os.fchown(output.fileno(), account.uid, account.gid)
        child = subprocess.Popen(
            [str(argument) for argument in arguments],
            cwd=folder,
            env={**_plain_environment(), **environment, MARKER: str(folder)},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    child.returncode = 0  # it outlives us on purpose, and Python need not warn of that
    return Running(child.pid, psutil.Process(child.pid).create_time())


def run(
    arguments: Sequence[str | Path],
    *,
    folder: Path,
    environment: Mapping[str, str] | None = None,
    account: Account | None,
    text: str = "",
    timeout_s: float = 60.0,
) -> str:
    """Run a program on a text to its end; return what it printed. Raises StackError when it fails."""
    try:
        done = subprocess.run(
            [str(argument) for argument in arguments],
            cwd=folder,
            env={**_plain_environment(), **(environment or {}), MARKER: str(folder)},
            input=text,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except subprocess.TimeoutExpired as error:
        raise StackError(f"{Path(arguments[0]).name} did not end in {timeout_s:g} s") from error
    if done.returncode:
        last = (done.stderr.strip() or done.stdout.strip()).splitlines()[-1:]
        raise StackError(f"{Path(arguments[0]).name} failed ({done.returncode}): {' '.join(last)}")
    return done.stdout


def _plain_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in ("PATH", "LANG", "TZ") if name in os.environ}


def wait_until(ready: Callable[[], bool], *, what: str, log: Path, server: Running, timeout_s: float) -> None:
    """Wait until a server is ready. Raises StackError with its last words when it ends or takes too long."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        if not server.is_alive:
            raise StackError(f"{what} ended while starting: {_last_words(log)}")
        if time.monotonic() > deadline:
            raise StackError(f"{what} was not ready in {timeout_s:g} s: {_last_words(log)}")
        time.sleep(_POLL_S)


def _last_words(log: Path) -> str:
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()[-3:]
    return f"{' / '.join(lines)} (whole log: {log})"


def end(server: Running, *, how: signal.Signals = signal.SIGTERM, timeout_s: float = STOP_TIMEOUT_S) -> None:
    """End a server: ask, wait, then kill."""
    process = server.process()
    if process is None:
        return
    try:
        process.send_signal(how)
        try:
            process.wait(timeout=timeout_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait(timeout=timeout_s)
    except psutil.NoSuchProcess:
        return  # it ended by itself meanwhile


def end_component(name: str, server: Running) -> None:
    """End a component of the stack by its name."""
    # SIGINT is PostgreSQL's fast shutdown; SIGTERM would wait for its clients.
    how = signal.SIGINT if name.endswith(("-primary", "-replica")) else signal.SIGTERM
    end(server, how=how)


def find_all(folder: Path) -> list[Running]:
    """Find the processes of a stack's servers, whoever started them and whatever the state file says."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _belongs(process, f"{folder}{os.sep}"):
                found.append(Running(process.pid, process.create_time()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended, or is another user's and so not ours
    return found


def _belongs(process: psutil.Process, prefix: str) -> bool:
    """By its environment. PostgreSQL's children overwrite theirs, and are known by where they work."""
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    if (process.environ().get(MARKER, "") + os.sep).startswith(prefix):
        return True
    return process.name() == "postgres" and (process.cwd() + os.sep).startswith(prefix)


def end_strays(folder: Path, known: Sequence[Running], timeout_s: float = 10.0) -> int:
    """Kill what is left of a stack beside its known servers and their children; return how many."""
    deadline = time.monotonic() + timeout_s
    pids = {server.pid for server in known}
    killed: set[int] = set()
    while strays := [server for server in find_all(folder) if not _descends(server, pids)]:
        for server in strays:
            process = server.process()
            if process is not None:
                killed.add(server.pid)
                process.kill()
        if time.monotonic() > deadline:
            raise StackError(f"processes {sorted(server.pid for server in strays)} do not end")
        time.sleep(_POLL_S)
    return len(killed)


def _descends(server: Running, pids: set[int]) -> bool:
    process = server.process()
    if process is None:
        return True  # gone by itself
    try:
        return server.pid in pids or any(parent.pid in pids for parent in process.parents())
    except psutil.NoSuchProcess:
        return True
