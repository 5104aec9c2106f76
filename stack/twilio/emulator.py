"""A Twilio of one's own: Messages API, status callbacks and opt-outs, for tests and load tests.

    python -m stack.twilio.emulator --host 127.0.0.1 --port 8010 --account-sid AC… [--data-dir DIR]

The auth token comes from `TWILIO_AUTH_TOKEN` (or `--auth-token`, which other users of the machine can
read). Prints `ready http://…` when it listens. What it accepted, what it answered and how it is to behave
is under `/_control/`. Nothing leaves the machine but the callbacks it is asked for.
"""

import argparse
import contextlib
import os
import re
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from aiohttp import web

from stack.standin.control_api import PREFIX
from stack.standin.loopback_site import serving
from stack.standin.program import StartUpError, run
from stack.twilio.account import TwilioAccount
from stack.twilio.api import TwilioApi
from stack.twilio.control import TwilioControl

# About 1.4 GB when full of texts of 100 characters. Beyond it, the oldest message makes room and `evicted`
# counts up.
MESSAGES_MAX: Final = 2_000_000


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options; credentials default to the environment's."""
    parser = argparse.ArgumentParser(prog="python -m stack.twilio.emulator", description="Emulate Twilio.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="0 takes a free one")
    parser.add_argument("--account-sid", default=os.environ.get("TWILIO_ACCOUNT_SID", ""))
    parser.add_argument("--auth-token", default=os.environ.get("TWILIO_AUTH_TOKEN", ""))
    parser.add_argument("--data-dir", type=Path, help="keep accepted messages here, over restarts too")
    parser.add_argument("--messages-max", type=int, default=MESSAGES_MAX, help="messages kept")
    return parser.parse_args(arguments)


@contextlib.asynccontextmanager
async def emulating(options: argparse.Namespace) -> AsyncIterator[str]:
    """Run the emulator; yields the line that says it is ready."""
    if not re.fullmatch(r"AC[0-9a-fA-F]{32}", options.account_sid):
        raise StartUpError("give --account-sid or TWILIO_ACCOUNT_SID: AC and 32 hexadecimal digits")
    if not options.auth_token:
        raise StartUpError("give TWILIO_AUTH_TOKEN or --auth-token")
    if options.messages_max < 1:
        raise StartUpError("--messages-max must be at least 1")
    account = TwilioAccount(options.account_sid, options.auth_token, options.messages_max, options.data_dir)
    api = TwilioApi(account, options.auth_token)
    control = TwilioControl(account, api)

    async def handle(request: web.BaseRequest) -> web.StreamResponse:
        if request.rel_url.raw_path.startswith(PREFIX):
            return await control.handle(request)
        return await api.handle(request)

    account.callbacks.start()
    try:
        async with serving(handle, options.host, options.port) as url:
            yield f"ready {url}"
    finally:
        await account.callbacks.stop()
        account.close()


def main() -> int:
    """Run the program; returns its exit code."""
    return run("twilio_emulator", emulating(read_arguments()))


if __name__ == "__main__":
    sys.exit(main())
