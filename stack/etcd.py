"""A private etcd of one member, on loopback: where Patroni keeps who leads. In production: three members."""

import json
import shutil
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError, URLError

from stack.errors import StackError
from stack.ports import HOST
from stack.privileges import Account
from stack.process import Running, spawn, wait_until

USER = "patroni"
NAMESPACE = "/postorder/"
_UNPACKED = Path(__file__).parents[1] / "var/cache/debian/etcd"  # by scripts/bootstrap.sh
_START_TIMEOUT_S = 30.0
_REQUEST_TIMEOUT_S = 5.0


def etcd_program() -> Path:
    """Return etcd's program. Raises StackError, saying how to get it."""
    for path in (_UNPACKED / "usr/bin/etcd", Path(shutil.which("etcd") or "/usr/bin/etcd")):
        if path.exists():
            return path
    raise StackError("etcd is missing, and --ha needs it. Run: make setup")


def client_packages() -> Path:
    """Return the folder of the Python library that Patroni talks to etcd with. Raises StackError."""
    for path in (_UNPACKED / "usr/lib/python3/dist-packages", Path("/usr/lib/python3/dist-packages")):
        if (path / "etcd").exists():
            return path
    raise StackError("python3-etcd is missing, and --ha needs it. Run: make setup")


class Etcd:
    """The member, in its folder. Once `secure` has run, nobody gets in without a password."""

    def __init__(
        self,
        folder: Path,
        *,
        ports: Mapping[str, int],
        passwords: Mapping[str, str],
        program: Path,
        account: Account | None,
    ) -> None:
        self._folder = folder
        self._ports = ports
        self._passwords = passwords
        self._program = program
        self._account = account
        self._url = f"http://{HOST}:{ports['etcd']}"

    def start(self) -> Running:
        """Start the member; it is not ready yet."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account:
            self._account.take(self._folder)
        peer_url = f"http://{HOST}:{self._ports['etcd_peer']}"
        arguments = {
            "name": "postorder",
            "data-dir": self._folder / "data",
            "listen-client-urls": self._url,
            "advertise-client-urls": self._url,
            "listen-peer-urls": peer_url,
            "initial-advertise-peer-urls": peer_url,
            "initial-cluster": f"postorder={peer_url}",
            "auto-compaction-retention": "1h",
            "quota-backend-bytes": 256_000_000,
            "logger": "zap",
            "log-level": "warn",
        }
        return spawn(
            [self._program, *(f"--{name}={value}" for name, value in arguments.items())],
            folder=self._folder,
            log=self._log,
            environment={},
            account=self._account,
        )

    @property
    def _log(self) -> Path:
        return self._folder / "etcd.log"

    def wait(self, server: Running) -> None:
        """Wait until the member answers."""
        wait_until(self._is_healthy, what="etcd", log=self._log, server=server, timeout_s=_START_TIMEOUT_S)

    def _is_healthy(self) -> bool:
        try:
            with urllib.request.urlopen(f"{self._url}/health", timeout=1.0) as answer:  # noqa: S310  # our own loopback URL
                return bool(json.load(answer).get("health") == "true")
        except (URLError, HTTPException, OSError):
            return False

    def secure(self) -> None:
        """Demand passwords: root's own, and one that lets Patroni at its keys only. Safe to run again."""
        if self._token():
            return
        area = {"permType": "READWRITE", "key": _key(NAMESPACE), "range_end": _key(_end_of(NAMESPACE))}
        for path, request in (
            ("user/add", {"name": "root", "password": self._passwords["etcd_root"]}),
            ("role/add", {"name": "root"}),
            ("user/grant", {"user": "root", "role": "root"}),
            ("user/add", {"name": USER, "password": self._passwords["etcd"]}),
            ("role/add", {"name": USER}),
            ("role/grant", {"name": USER, "perm": area}),
            ("user/grant", {"user": USER, "role": USER}),
            ("auth/enable", {}),
        ):
            # An earlier start may have been killed half-way.
            self._ask(f"auth/{path}".replace("auth/auth", "auth"), request, accept="already exists")

    def forget(self, scope: str) -> None:
        """Delete what is known of a cluster, so that it can be made anew."""
        prefix = f"{NAMESPACE}{scope}/"
        request = {"key": _key(prefix), "range_end": _key(_end_of(prefix))}
        self._ask("kv/deleterange", request, token=self._token())

    def _token(self) -> str:
        """Return a token of root's; empty while passwords are not demanded yet."""
        request = {"name": "root", "password": self._passwords["etcd_root"]}
        answer = self._ask("auth/authenticate", request, accept="not enabled")
        return str(answer.get("token", ""))

    def _ask(
        self, path: str, request: dict[str, Any], *, accept: str = "", token: str = ""
    ) -> dict[str, Any]:
        """Send a request; an error that says `accept` counts as an empty answer. Raises StackError."""
        headers = {"Content-Type": "application/json", **({"Authorization": token} if token else {})}
        body = json.dumps(request).encode()
        asked = urllib.request.Request(f"{self._url}/v3/{path}", body, headers)  # noqa: S310  # as above
        try:
            with urllib.request.urlopen(asked, timeout=_REQUEST_TIMEOUT_S) as answer:  # noqa: S310  # as above
                found: dict[str, Any] = json.load(answer)
                return found
        except HTTPError as error:
            text = error.read().decode(errors="replace")
            if accept and accept in text:
                return {}
            raise StackError(f"etcd refuses {path}: {text.strip()} (log: {self._log})") from error
        except (URLError, HTTPException, OSError) as error:
            raise StackError(f"etcd does not answer at {self._url}: {error} (log: {self._log})") from error


def _key(text: str) -> str:
    return b64encode(text.encode()).decode()


def _end_of(prefix: str) -> str:
    """Return the first key after all that begin with a prefix."""
    return prefix[:-1] + chr(ord(prefix[-1]) + 1)
