"""A server that hangs: connections stay open, nothing answers."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def hanging(pid: int) -> Iterator[None]:
    """Hold a server as a hung machine would: connections stay open, nothing answers."""
    root = psutil.Process(pid)
    held = [root, *root.children(recursive=True)]
    for process in held:
        process.suspend()
    try:
        yield
    finally:
        for process in held:
            process.resume()
