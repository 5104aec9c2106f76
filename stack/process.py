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


def end(server: Running, *, how: signal.Signals = signal.SIGTERM, timeout_s: float = 20.0) -> None:
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


def find_all(folders: Sequence[Path]) -> list[Running]:
    """Find the processes that belong to a stack's folders, whoever started them and whatever they lost."""
    prefixes = tuple(f"{folder}{os.sep}" for folder in folders)
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and _belongs(process, folders, prefixes):
                found.append(Running(process.pid, process.create_time()))
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue  # it has ended, or is another user's and so not ours
    return found


def _belongs(process: psutil.Process, folders: Sequence[Path], prefixes: tuple[str, ...]) -> bool:
    """By its environment, or, for those who overwrite that (PostgreSQL's), by the folder they work in."""
    if process.status() == psutil.STATUS_ZOMBIE:
        return False
    if process.environ().get(MARKER, "") in {str(folder) for folder in folders}:
        return True
    return (process.cwd() + os.sep).startswith(prefixes)


def end_all(folders: Sequence[Path], timeout_s: float = 10.0) -> int:
    """Kill whatever is left of a stack; return how many processes that were."""
    deadline = time.monotonic() + timeout_s
    killed = 0
    while left := find_all(folders):
        for server in left:
            process = server.process()
            if process is not None:
                killed += 1
                process.kill()
        if time.monotonic() > deadline:
            raise StackError(f"processes {[server.pid for server in left]} do not end")
        time.sleep(_POLL_S)
    return killed
