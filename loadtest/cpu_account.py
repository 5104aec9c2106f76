"""CPU and memory by part of the system, from the operating system's accounting of each process."""

import os
from collections.abc import Mapping
from contextlib import suppress

import psutil


class CpuAccount:
    """Groups of processes by name, each with the roots of its process trees."""

    def __init__(self, groups: Mapping[str, list[int]]) -> None:
        self._groups = groups

    def read(self) -> dict[str, float]:
        """Return the CPU seconds, user and system, of each group since its processes began."""
        return {name: sum(_tree_seconds(pid) for pid in pids) for name, pids in self._groups.items()}


def rss_mb(pid: int) -> float:
    """Return the resident memory of a process and those it started, in MB; 0 when it is gone.

    Pages that several of them share count for each.
    """
    total = 0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        for process in [root, *root.children(recursive=True)]:
            with suppress(psutil.NoSuchProcess):
                total += process.memory_info().rss
    return total / 1e6


def _tree_seconds(pid: int) -> float:
    """Sum a tree: each process alive, and through it the ended children it has waited for."""
    total = 0.0
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        # The programs we start are groups of their own, so our own entry is without its children.
        children = [] if pid == os.getpid() else root.children(recursive=True)
        for process in [root, *children]:
            with suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                total += times.user + times.system
                if pid != os.getpid():
                    total += times.children_user + times.children_system
    return total
