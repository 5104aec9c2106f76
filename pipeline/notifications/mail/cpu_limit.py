"""A bound on the CPU time of what may never end, such as a template's loop."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class CpuLimitError(RuntimeError):
    """What ran took longer than it may."""


@contextmanager
def cpu_limit(seconds: float) -> Iterator[None]:
    """Raise CpuLimitError where the body is, once the process has calculated for so many seconds in it.

    Only the main thread gets signals: in another one the body is not bounded.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(*_: object) -> None:
        raise CpuLimitError(f"takes more than {seconds:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, stop)
    try:
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds)
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
