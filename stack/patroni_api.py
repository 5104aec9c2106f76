"""Patroni's REST interface: who leads, settings of the pair, switchover."""

import json
import urllib.request
from base64 import b64encode
from collections.abc import Mapping
from http.client import HTTPException
from typing import Any
from urllib.error import HTTPError, URLError

import msgspec

from stack.errors import StackError
from stack.ports import HOST

REST_USER = "patroni"
_ANSWER_TIMEOUT_S = 2.0
_SWITCHOVER_TIMEOUT_S = 60.0


class MemberView(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a pair as Patroni sees it. `lag`: bytes of WAL behind the leader; None: not known."""

    name: str
    role: str
    state: str
    timeline: int | None = None
    lag: int | str | None = None

    @property
    def leads(self) -> bool:
        """Whether it is the primary and accepts writes."""
        return self.role == "leader" and self.state == "running"


class _Cluster(msgspec.Struct, frozen=True):
    members: list[MemberView]


class PatroniApi:
    """The interface of one member."""

    def __init__(self, name: str, port: int, password: str) -> None:
        self.name = name
        self.port = port
        self._password = password

    def members(self) -> list[MemberView]:
        """Return what this Patroni knows of its pair; nothing when it does not answer."""
        try:
            return msgspec.json.decode(self._ask("GET", "cluster"), type=_Cluster).members
        except (StackError, msgspec.DecodeError):
            return []

    def configure(self, cluster: Mapping[str, Any]) -> None:
        """Change the settings of the whole pair. Raises StackError."""
        self._ask("PATCH", "config", cluster)

    def switch_over(self, leader: str, candidate: str) -> None:
        """Let the candidate take over from the leader; return when it has. Raises StackError."""
        request = {"leader": leader, "candidate": candidate}
        self._ask("POST", "switchover", request, timeout_s=_SWITCHOVER_TIMEOUT_S)

    def _ask(
        self,
        method: str,
        path: str,
        request: Mapping[str, Any] | None = None,
        timeout_s: float = _ANSWER_TIMEOUT_S,
    ) -> bytes:
        credentials = b64encode(f"{REST_USER}:{self._password}".encode()).decode()
        asked = urllib.request.Request(  # our own loopback URL
            f"http://{HOST}:{self.port}/{path}",
            data=None if request is None else json.dumps(request).encode(),
            method=method,
            headers={"Content-Type": "application/json", "Authorization": f"Basic {credentials}"},
        )
        try:
            with urllib.request.urlopen(asked, timeout=timeout_s) as answer:  # noqa: S310  # as above
                found: bytes = answer.read()
                return found
        except HTTPError as error:
            text = error.read().decode(errors="replace").strip()
            raise StackError(f"Patroni of {self.name} refuses {path}: {text}") from error
        except (URLError, HTTPException, OSError) as error:
            raise StackError(f"Patroni of {self.name} does not answer: {error}") from error
