"""A worker: `postorder run` in a process of a supervisor: `python -m consumers.allocator.worker_main`."""

import socket
import sys
from pathlib import Path

import msgspec
import structlog

from consumers.allocator.lifeline import end_with
from consumers.allocator.messages import FAILED, USAGE_ERROR, WorkerTask
from consumers.allocator.supervised import Supervised
from consumers.bootstrap import Process
from consumers.command import find_shard_in, run_async, settings_from
from consumers.roles import Role
from pipeline.clock import SystemClock
from pipeline.errors import PostorderError, SettingsError


def main() -> int:
    """Run until told to end; return the exit status: as `postorder run`."""
    task = msgspec.json.decode(sys.argv[1], type=WorkerTask)
    if not end_with(task.parent):
        return FAILED
    structlog.contextvars.bind_contextvars(worker=task.number)
    try:
        return run_async(_work(task))
    except SettingsError as error:
        problems, status = error.problems, USAGE_ERROR
    except PostorderError as error:
        problems, status = [str(error)], FAILED
    for problem in problems:
        sys.stderr.write(f"postorder: worker {task.number}: {problem}\n")
    return status


async def _work(task: WorkerTask) -> int:
    config = Path(task.config)
    settings = settings_from(config)
    link = await Supervised.connect(socket.socket(fileno=task.socket), SystemClock())
    roles = frozenset(Role(name) for name in task.roles)
    process = Process(settings, roles, find_shard_in(config), steering=link)
    link.on_stop = process.stop
    try:
        return await process.run()
    finally:
        link.close()


if __name__ == "__main__":
    sys.exit(main())
