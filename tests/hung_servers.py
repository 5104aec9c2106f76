"""Servers that hang: connections stay open, nothing answers."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil


@contextmanager
def hanging(*pids: int) -> Iterator[None]:
    """Hold processes and their children as a hung machine would: connections stay open, nothing answers."""
    roots = [psutil.Process(pid) for pid in pids]
    held = [process for root in roots for process in (root, *root.children(recursive=True))]
    for process in held:
        process.suspend()
    try:
        yield
    finally:
        for process in held:
            process.resume()
