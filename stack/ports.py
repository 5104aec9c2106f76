"""Ports on loopback: the preferred one where it is free, else any free one."""

import socket

HOST = "127.0.0.1"

# Away from the defaults (5672, 5432, 25, 4369), so that the stack lives beside a system's own servers.
PREFERRED = {
    "amqp": 35672,
    "amqp_dist": 35673,
    "epmd": 35674,
    "management": 35675,
    "etcd": 35676,
    "etcd_peer": 35677,
    "smtp": 35025,
    "smtp_api": 35026,
    "twilio": 35080,
}
FIRST_SHARD_PORT = 35432
FIRST_API_PORT = 35800


def preferred_port(name: str) -> int:
    """Return the port a component would like.

    Shards count up from 35432: primary and replica, or the members `a` and `b`, in turn. A member's Patroni
    (`shard0-a-api`) counts up from 35800 in the same way.
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


def choose_port(name: str, taken: set[int], before: int | None = None) -> int:
    """Return a free port: the one used before, else the preferred one, else any. Never one in `taken`."""
    for port in (before, preferred_port(name)):
        if port and port not in taken and is_free(port):
            return port
    while True:
        with socket.socket() as probe:
            probe.bind((HOST, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def accepts(port: int, timeout_s: float = 1.0) -> bool:
    """Tell whether something listens on a port."""
    try:
        with socket.create_connection((HOST, port), timeout=timeout_s):
            return True
    except OSError:
        return False
