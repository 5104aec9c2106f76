"""`postorder run` as a process of its own, started and ended by a load program."""

import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from pipeline.errors import PostorderError

_STOP_TIMEOUT_S = 30.0


class PipelineProcessError(PostorderError):
    """The pipeline's process ended when it should not have, or badly."""


class PipelineProcess:
    """A context manager: the process runs inside, and is told to drain at the end."""

    def __init__(
        self,
        config: Path,
        log: Path,
        settings: Mapping[str, str],
        arguments: Sequence[str] = (),
        program: Sequence[str] = ("-m", "consumers"),
    ) -> None:
        self._arguments = arguments
        self._program = program
        self._config = config
        self.log = log
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self.exit_status: int | None = None

    def __enter__(self) -> Self:
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, *self._program, "run", "--config", str(self._config), *self._arguments],
                env={**os.environ, **self._settings},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is ours to handle; the pipeline gets SIGTERM
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def pid(self) -> int:
        """The process's pid. Raises PipelineProcessError when it was stopped."""
        if self._process is None:
            raise PipelineProcessError("the pipeline is not running")
        return self._process.pid

    def wait_ended(self, timeout_s: float) -> int:
        """Return the exit status of a process that ends by itself. Raises PipelineProcessError."""
        if self._process is None:
            raise PipelineProcessError("the pipeline is not running")
        try:
            return self._process.wait(timeout=timeout_s)
        except subprocess.TimeoutExpired:
            raise PipelineProcessError(f"the pipeline still runs after {timeout_s:g} s") from None

    def check(self) -> None:
        """Raise PipelineProcessError if the process has ended."""
        if self._process is not None and self._process.poll() is not None:
            raise PipelineProcessError(
                f"the pipeline ended with status {self._process.returncode}: see {self.log}"
            )

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Ask the process to drain and wait for it; kill it if it does not end."""
        process, self._process = self._process, None
        if process is None:
            return
        process.send_signal(how)
        try:
            self.exit_status = process.wait(timeout=_STOP_TIMEOUT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            self.exit_status = process.wait(timeout=_STOP_TIMEOUT_S)
