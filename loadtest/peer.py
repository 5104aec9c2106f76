"""The peer program: the same intake as a good FastStream user writes it, measured beside ours."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path

from pipeline.errors import PostorderError
from stack.status import StackStatus

FOLDER = Path(__file__).with_name("peers")
_STOP_TIMEOUT_S = 30.0
_INSTALL_TIMEOUT_S = 600.0


class PeerError(PostorderError):
    """The peer program cannot be installed."""


def peer_python(cache: Path) -> Path:
    """Return the interpreter of the peer's own environment, made when it is not there. Raises PeerError."""
    requirements = FOLDER / "requirements.txt"
    name = sha256(requirements.read_bytes()).hexdigest()[:12]
    folder = (cache / f"peer-{name}").resolve()
    python = folder / "bin/python"
    complete = folder / ".complete"
    if not complete.exists():
        _run([sys.executable, "-m", "venv", "--clear", str(folder)])
        _run([str(python), "-m", "pip", "install", "-q", "--require-hashes", "-r", str(requirements)])
        complete.touch()
    return python


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_TIMEOUT_S, check=False)
    if done.returncode:
        raise PeerError(f"{' '.join(command[1:4])} failed: {done.stderr.strip().splitlines()[-1:]}")


@contextmanager
def running_peer(python: Path, stack: StackStatus, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run the peer on a stack's broker and primaries until the block ends."""
    dsns = [argument for shard in stack.shards for argument in ("--primary-dsn", shard.primary_dsn)]
    command = [str(python), str(FOLDER / "faststream_peer.py"), "--amqp-url", stack.amqp_url, *dsns]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT, env=dict(os.environ)
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(timeout=_STOP_TIMEOUT_S)
