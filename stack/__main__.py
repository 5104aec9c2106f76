"""`python -m stack up|down|status|reset`: the stack without the pipeline's command line."""

import argparse
import sys
from pathlib import Path

import msgspec

from stack.errors import StackError
from stack.launcher import StackConfig, down, reset, status, up
from stack.state import ShardConfig
from stack.status import StackStatus


def main() -> int:
    """Run a command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m stack", description="The local stack.")
    parser.add_argument("command", choices=["up", "down", "status", "reset"])
    parser.add_argument("--shards", type=int, default=2, help="may grow: a stack keeps those it has")
    parser.add_argument("--ha", action="store_true")
    parser.add_argument("--data-dir", type=Path, default=Path("var/stack"))
    options = parser.parse_args()
    shards = tuple(ShardConfig(name=f"shard{number}") for number in range(options.shards))

    def say(text: str) -> None:
        sys.stderr.write(f"stack: {text}\n")

    found: StackStatus | None
    try:
        match options.command:
            case "up":
                found = up(StackConfig(data_dir=options.data_dir, shards=shards, ha=options.ha), say)
            case "down":
                down(options.data_dir, say)
                return 0
            case "reset":
                found = reset(options.data_dir, say)
            case _:
                found = status(options.data_dir)
    except StackError as error:
        say(str(error))
        return 1
    sys.stdout.buffer.write(msgspec.json.format(msgspec.json.encode(found)) + b"\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
