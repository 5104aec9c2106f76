"""The stand-ins for the world outside: SMTP sink and Twilio emulator, each a process."""

import sys
import urllib.request
from collections.abc import Callable, Mapping
from http.client import HTTPException
from pathlib import Path
from urllib.error import URLError

from stack.ports import HOST
from stack.privileges import Account
from stack.process import Running, spawn, wait_until

NAMES = ("smtp_sink", "twilio_emulator")
_PROGRAMS = {"smtp_sink": "stack.smtp.sink", "twilio_emulator": "stack.twilio.emulator"}
_TIMEOUT_S = 30.0


def start_emulator(
    name: str,
    folder: Path,
    *,
    ports: Mapping[str, int],
    account_sid: str,
    auth_token: str,
    account: Account | None,
    note: Callable[[Mapping[str, Running]], None],
) -> int:
    """Start a stand-in; return its port when it is ready. `note` is told of the process at once."""
    port = ports["smtp"] if name == "smtp_sink" else ports["twilio"]
    api_port = ports["smtp_api"] if name == "smtp_sink" else port
    arguments = {
        "smtp_sink": ["--port", str(port), "--api-port", str(api_port)],
        "twilio_emulator": ["--port", str(port), "--account-sid", account_sid],
    }[name]
    folder.mkdir(mode=0o700, exist_ok=True)
    # Python and its packages may lie where only root can read; these two do not mind root.
    account = account if account and _python_is_readable(account) else None
    if account:
        account.take(folder)
    log = folder / "output.log"
    server = spawn(
        [sys.executable, "-m", _PROGRAMS[name], "--host", HOST, *arguments],
        folder=folder,
        log=log,
        environment={
            "TWILIO_AUTH_TOKEN": auth_token,
            "PYTHONPATH": str(Path(__file__).parents[1]),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        account=account,
    )
    note({name: server})
    url = f"http://{HOST}:{api_port}/_control/health"
    wait_until(lambda: _is_healthy(url), what=name, log=log, server=server, timeout_s=_TIMEOUT_S)
    return port


def _python_is_readable(account: Account) -> bool:
    return account.can_enter(Path(sys.executable).resolve()) and account.can_enter(Path(__file__))


def _is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1.0) as answer:  # noqa: S310  # our own loopback URL
            return bool(answer.status == 200)  # noqa: PLR2004
    except (URLError, HTTPException, OSError):
        return False
