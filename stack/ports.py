"""Ports on loopback: the preferred one where it is free, else any free one, and never one that another chose.

Between the choice of a port and the moment when its server binds it lie seconds. Meanwhile the port is
reserved for whoever chose it.
"""

import secrets
import socket
from types import TracebackType
from typing import Self

HOST = "127.0.0.1"

# Away from the defaults (5672, 5432, 25, 4369), so that the stack lives beside a system's own servers.
# And below the ports of outgoing connections: who asks again and again whether a server on one of those is
# up will one day be given that very port, be connected to himself, and keep the server from binding it.
PREFERRED = {
    "amqp": 27672,
    "amqp_dist": 27673,
    "epmd": 27674,
    "management": 27675,
    "etcd": 27676,
    "etcd_peer": 27677,
    "smtp": 27025,
    "smtp_api": 27026,
    "twilio": 27080,
    "public": 27081,  # the pipeline's own listeners, not servers of the stack
    "api": 27082,
}
_FIRST_ANY = 20_000
_FIRST_OUTGOING = 32_768  # the kernel's default
FIRST_SHARD_PORT = 27432
FIRST_API_PORT = 27800


def preferred_port(name: str) -> int:
    """Return the port a component would like.

    Shards count up from 27432: primary and replica, or the members `a` and `b`, in turn. A member's Patroni
    (`shard0-a-api`) counts up from 27800 in the same way.
    """
    if name in PREFERRED:
        return PREFERRED[name]
    first = FIRST_API_PORT if name.endswith("-api") else FIRST_SHARD_PORT
    shard, _, role = name.removesuffix("-api").rpartition("-")
    return first + 2 * int(shard.removeprefix("shard")) + (role in ("replica", "b"))


def is_free(port: int) -> bool:
    """Tell whether a port can be bound now."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError:
            return False
    return True


class Reservations:
    """Ports that no other launcher on this machine chooses, until this is closed or its process ends.

    A reservation is a name of a Unix socket in the abstract namespace: the kernel gives a name to one socket,
    keeps them apart for each network namespace, as ports, and forgets those of a process that has ended.
    """

    def __init__(self) -> None:
        self._sockets: dict[int, socket.socket] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def take(self, port: int) -> bool:
        """Reserve a port, unless a server has it or another launcher. Returns whether it is reserved now."""
        held = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            held.bind(f"\0postorder/port/{port}")
        except OSError:
            held.close()
            return False
        # Looked at only now: a launcher that let go of it has a server on it.
        if not is_free(port):
            held.close()
            return False
        self._sockets[port] = held
        return True

    def close(self) -> None:
        """Let go of all ports."""
        while self._sockets:
            self._sockets.popitem()[1].close()


_UNTIL_THE_END = Reservations()


def choose_port(
    name: str, taken: set[int], before: int | None = None, reserved: Reservations = _UNTIL_THE_END
) -> int:
    """Return a free port: the one used before, else the preferred one, else any. Never one in `taken`.

    Nobody else chooses it as long as `reserved` is open; by default that is until this process ends.
    """
    for port in (before, preferred_port(name)):
        if port and port not in taken and reserved.take(port):
            return port
    while True:
        port = _FIRST_ANY + secrets.randbelow(_FIRST_OUTGOING - _FIRST_ANY)
        if port not in taken and reserved.take(port):
            return port


def accepts(port: int, timeout_s: float = 1.0) -> bool:
    """Tell whether something listens on a port."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s):
            return True
    except OSError:
        return False
