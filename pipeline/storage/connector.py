"""Opens connections to the server that has the wanted role, among the hosts that a DSN names."""

import socket
from enum import StrEnum
from typing import Any

import asyncpg

from pipeline.dsn import parse_dsn
from pipeline.errors import StorageUnavailableError
from pipeline.settings import StorageSettings

# A peer that went without a word is noticed by the kernel too, not only by our own time-outs.
_SOCKET_OPTIONS = (
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 2),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 10_000),
)
# The first 8 digits of a WAL file's name are the timeline, which each promotion raises.
_TIMELINE = "SELECT left(pg_walfile_name(pg_current_wal_lsn()), 8)"


class Wants(StrEnum):
    """Which server is wanted, in libpq's words for `target_session_attrs`."""

    ANY = "any"
    READ_WRITE = "read-write"
    PRIMARY = "primary"
    STANDBY = "standby"
    PREFER_STANDBY = "prefer-standby"


_UNREACHABLE = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
# Not a primary; shut down by its administrator, after a crash, not accepting yet; connection exceptions.
_SERVER_GONE = ("25006", "57P01", "57P02", "57P03", "08")
_OTHER_ROLE = {
    Wants.READ_WRITE: "takes no writes",
    Wants.STANDBY: "is a primary",
    Wants.PREFER_STANDBY: "is a primary",
}
_WRITABLE = (Wants.READ_WRITE, Wants.PRIMARY)


class Connection(asyncpg.Connection):  # type: ignore[misc]  # the driver is not typed
    """A pooled connection that leaves nothing behind in its session, so that there is nothing to reset.

    The library's reset is a round trip of five statements at each return to the pool. An open transaction is
    rolled back all the same. Who sets or listens opens a connection of its own.
    """

    ended_here = False
    """Whether this process cut it, so that its end says nothing about the server."""

    def get_reset_query(self) -> str:
        """Return no statement."""
        return ""

    def terminate(self) -> None:
        """End it without a word to the server."""
        self.ended_here = True
        super().terminate()


class Connector:
    """Finds the wanted server. Mutable state: `_hosts`, the likeliest first, and the highest timeline seen.

    A server that was demoted while nobody looked still says that it is a primary; its timeline is lower than
    its successor's, and it is refused.
    """

    def __init__(
        self, name: str, dsn: str, password: str, settings: StorageSettings, wants: Wants | None = None
    ) -> None:
        self.name = name
        self.wants = wants or wanted(name, dsn)
        self._dsns = dsn_by_address(dsn)
        self._hosts = list(self._dsns)
        self._password = password
        self._settings = settings
        self._timeline = 0

    def __repr__(self) -> str:
        return f"Connector({self.name}: {self.wants} of {self.address}, timeline {self._timeline})"

    @property
    def address(self) -> str:
        """The hosts, as people write them."""
        return ",".join(self._dsns)

    @property
    def has_choice(self) -> bool:
        """Whether there is more than one host."""
        return len(self._dsns) > 1

    def is_misled(self, connection: asyncpg.Connection) -> bool:
        """Tell whether a connection's server reports another role than the wanted one."""
        match self.wants:
            case Wants.ANY:
                return False
            case Wants.READ_WRITE:
                return is_standby(connection) or is_read_only(connection)
            case Wants.PRIMARY:
                return is_standby(connection)
            case _:
                return not is_standby(connection)

    def suspect(self) -> None:
        """Try the host used last after the others: it did not answer in time."""
        self._hosts.append(self._hosts.pop(0))

    async def connect(self, _dsn: str | None = None, **options: Any) -> asyncpg.Connection:
        """Return a connection to the wanted server; the pool calls it with options of its own.

        With several hosts each has its share of the time-out, so that one that hangs does not keep us from
        the next. Raises StorageUnavailableError when none of them will do; a single host's own error else.
        """
        reasons = []
        fallback: tuple[str, asyncpg.Connection] | None = None
        try:
            for address in list(self._hosts):
                try:
                    connection, problem = await self._open(address, options)
                except _UNREACHABLE as error:
                    if not self.has_choice:
                        raise
                    reasons.append(f"{address} {_reason(error)}")
                    continue
                if problem is None:
                    return self._chosen(address, connection)
                reasons.append(f"{address} {problem}")
                if self.wants is Wants.PREFER_STANDBY and fallback is None:
                    fallback = (address, connection)
                else:
                    connection.terminate()
            if fallback is not None:
                chosen, fallback = fallback, None
                return self._chosen(*chosen)
        finally:
            if fallback is not None:
                fallback[1].terminate()
        raise StorageUnavailableError(f"{self.name}: no {self.wants} server: {'; '.join(reasons)}")

    async def _open(self, address: str, options: dict[str, Any]) -> tuple[asyncpg.Connection, str | None]:
        """Return a connection to a host, and why it is not the wanted server, if it is not."""
        settings = self._settings
        connection = await asyncpg.connect(
            self._dsns[address],
            password=self._password or None,
            timeout=settings.connect_timeout_s / len(self._dsns),
            command_timeout=settings.command_timeout_s,
            target_session_attrs="any",  # decided here, where a time-out counts for one host only
            server_settings={"application_name": settings.application_name},
            **options,
        )
        try:
            keep_alive(connection)
            return connection, await self._problem(connection)
        except BaseException:
            connection.terminate()
            raise

    def _chosen(self, address: str, connection: asyncpg.Connection) -> asyncpg.Connection:
        self._hosts.remove(address)
        self._hosts.insert(0, address)
        return connection

    async def _problem(self, connection: asyncpg.Connection) -> str | None:
        """Return why a server is not the wanted one, or None."""
        if self.is_misled(connection):
            return "is a replica" if is_standby(connection) else _OTHER_ROLE[self.wants]
        if self.wants not in _WRITABLE:
            return None
        timeline = int(await connection.fetchval(_TIMELINE), 16)
        if timeline < self._timeline:
            return f"is on timeline {timeline}, and another was on {self._timeline}: it was demoted"
        self._timeline = timeline
        return None


def wanted(name: str, dsn: str) -> Wants:
    """Return which server a DSN is for: what it says itself, else what the last word of the name says."""
    default = Wants.READ_WRITE if name.endswith("primary") else Wants.PREFER_STANDBY
    return Wants(parse_dsn(dsn).parameters.get("target_session_attrs", default))


def dsn_by_address(dsn: str) -> dict[str, str]:
    """Split a DSN that may name several hosts into a DSN for each, by host:port. Raises ValueError."""
    parts = parse_dsn(dsn)
    return {str(address): parts.at(address) for address in parts.addresses}


def is_standby(connection: asyncpg.Connection) -> bool:
    """Tell whether a connection's server is in recovery. PostgreSQL reports it unasked: no round trip."""
    return getattr(connection.get_settings(), "in_hot_standby", "off") == "on"


def is_read_only(connection: asyncpg.Connection) -> bool:
    """Tell whether a connection's transactions take no writes unless they ask to. Reported unasked too."""
    return getattr(connection.get_settings(), "default_transaction_read_only", "off") == "on"


def keep_alive(connection: asyncpg.Connection) -> None:
    """Let the kernel watch the peer. The driver has no option for it."""
    channel = connection._transport.get_extra_info("socket")  # noqa: SLF001  # as above
    if channel is not None and channel.family in (socket.AF_INET, socket.AF_INET6):
        for level, option, value in _SOCKET_OPTIONS:
            channel.setsockopt(level, option, value)


def is_distrusted(error: BaseException, connection: asyncpg.Connection) -> bool:
    """Tell whether an error means that a pool's connections may lead to a server that is no longer the one.

    True: not a primary, shutting down, connection lost, no answer in time. False for all that is about the
    statement, and for a connection that we cut ourselves.
    """
    if has_timed_out(error):
        return True
    if getattr(connection, "ended_here", False):
        return False
    if isinstance(error, asyncpg.PostgresError):
        return (error.sqlstate or "").startswith(_SERVER_GONE)
    return isinstance(error, OSError) or connection.is_closed()


def has_timed_out(error: BaseException | None) -> bool:
    """Tell whether an error is a time-out, or came of one: on a server that hangs, rolling back fails too."""
    while error is not None:
        if isinstance(error, TimeoutError):
            return True
        error = error.__context__
    return False


def _reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "did not answer in time"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections"
    return f"{type(error).__name__} ({getattr(error, 'sqlstate', None) or 'no code'})"
