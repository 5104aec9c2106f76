"""The shipped commands, run as a user runs them."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from select import select

ROOT = Path(__file__).parents[1]
TIMEOUT_S = 60.0


def postorder(
    *arguments: str, cwd: Path = ROOT, text: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, forked from one that has imported them all."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / name for name in ("stdin", "stdout", "stderr")]
        for path, content in zip(files, (text, "", ""), strict=True):
            path.write_text(content)
        status = _warm.run(
            {
                "arguments": arguments,
                "cwd": str(cwd),
                "env": environment(variables),
                "files": [str(path) for path in files],
            }
        )
        _, out, err = (path.read_text() for path in files)
    return subprocess.CompletedProcess(["postorder", *arguments], status, out, err)


def postorder_anew(
    *arguments: str, cwd: Path = ROOT, text: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    """Run a command from nothing, with an interpreter of its own."""
    return subprocess.run(
        [sys.executable, "-m", "consumers", *arguments],
        cwd=cwd,
        env=environment(variables),
        input=text,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def environment(variables: dict[str, str]) -> dict[str, str]:
    clean = {name: value for name, value in os.environ.items() if not name.startswith("POSTORDER_")}
    return {**clean, **variables}


class Warm:
    """The process of `warm_commands.py`: started when first needed, ended by the end of its input."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None

    def run(self, asked: dict[str, object]) -> int:
        """Return the exit status of a command; one that takes too long is killed."""
        if self._process is None:
            program = str(Path(__file__).with_name("warm_commands.py"))
            self._process = subprocess.Popen(
                [sys.executable, program],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
                start_new_session=True,
            )
        process = self._process
        assert process.stdin
        assert process.stdout
        process.stdin.write(json.dumps(asked).encode() + b"\n")
        answers, _, _ = select([process.stdout], [], [], TIMEOUT_S)
        line = process.stdout.readline() if answers else b""
        if not line:
            self._process = None
            os.killpg(process.pid, 9)
            process.wait(10)
            raise subprocess.TimeoutExpired(str(asked["arguments"]), TIMEOUT_S)
        return int(line)


_warm = Warm()
