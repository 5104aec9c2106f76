"""A process that has imported every command and forks one for each line it is given: `commands.py` asks it.

Most of what a command costs is its imports, and the default suite runs a hundred. A forked command has a
process, folder, environment, standard files and an end of its own, as one that is started has.
"""

import gc
import json
import os
import sys
from importlib import import_module
from typing import Any

from typer.testing import CliRunner

from consumers.cli import COMMANDS, app, main


def become_a_command() -> bool:
    """Answer lines until there are no more. True in a fork: from here on it is the command of its line."""
    lines, answers = os.fdopen(os.dup(0), "rb"), os.dup(1)
    for line in lines:
        asked = json.loads(line)
        pid = os.fork()
        if pid == 0:
            lines.close()
            os.close(answers)
            dress(asked)
            return True
        _, status = os.waitpid(pid, 0)
        os.write(answers, b"%d\n" % os.waitstatus_to_exitcode(status))
    return False


def dress(asked: dict[str, Any]) -> None:
    """Take on the folder, the environment, the standard files and the arguments that were asked for."""
    os.chdir(asked["cwd"])
    os.environ.clear()
    os.environ.update(asked["env"])
    for number, flags in enumerate((os.O_RDONLY, os.O_WRONLY, os.O_WRONLY)):
        opened = os.open(asked["files"][number], flags)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["postorder", *asked["arguments"]]


def run() -> None:
    """Run the command, and end without tidying up what the fork shares with the others: it takes 0.1 s."""
    status: object = 0
    try:
        main()
    except SystemExit as end:
        status = end.code
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status if isinstance(status, int) else 0)


if __name__ == "__main__":
    for entry in COMMANDS.values():
        if entry.target.startswith(
            "consumers."
        ):  # the others import numpy, whose threads no fork takes along
            import_module(entry.target.partition(":")[0])
    CliRunner().invoke(app, ["topology", "apply", "--config", "/nowhere"])  # what Typer itself puts off
    gc.collect()
    gc.freeze()
    if become_a_command():
        run()
