"""PostgreSQL addresses as URLs, which may name several hosts: `postgresql://user@h1:1,[::1]:2/name?key=value`."""

import re
from typing import Final, NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

DEFAULT_PORT: Final = 5432


class Address(NamedTuple):
    """Where one server listens. `host`: without brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        """Return it as host:port, an IPv6 address in brackets."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Dsn(NamedTuple):
    """A DSN in parts. `database` may be empty: PostgreSQL takes the user's name then."""

    scheme: str
    user: str
    password: str
    addresses: tuple[Address, ...]
    database: str
    parameters: dict[str, str]

    def at(self, address: Address) -> str:
        """Return the DSN of one of its servers, for a driver that is to ask no other."""
        password = f":{quote(self.password, safe='')}" if self.password else ""
        user = f"{quote(self.user, safe='')}{password}@" if self.user else ""
        query = urlencode({k: v for k, v in self.parameters.items() if k != "target_session_attrs"})
        return f"{self.scheme}://{user}{address}/{quote(self.database, safe='')}{query and '?'}{query}"


def parse_dsn(dsn: str) -> Dsn:
    """Take a DSN apart. Raises ValueError, which says what is not of the form host:port.

    The standard library's urlsplit is of no use for the whole: whether it takes a list of hosts with a
    bracket in it depends on the version of Python, down to its last digit.
    """
    scheme, _, rest = dsn.partition("://")
    ends = [at for at in map(rest.find, "/?#") if at >= 0]
    authority, tail = (rest[: min(ends)], rest[min(ends) :]) if ends else (rest, "")
    user, _, hosts = authority.rpartition("@")
    name, _, password = user.partition(":")
    parts = urlsplit(f"//host{tail}")
    return Dsn(
        scheme=scheme,
        user=unquote(name),
        password=unquote(password),
        addresses=tuple(_address(host) for host in hosts.split(",")),
        database=unquote(parts.path.removeprefix("/")),
        parameters=dict(parse_qsl(parts.query)),
    )


_HOST = re.compile(r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<name>[^\[\]:\s]+))(?::(?P<port>[0-9]{1,5}))?")
_PORT_MAX = 65_535


def _address(host: str) -> Address:
    found = _HOST.fullmatch(host)
    port = int(found["port"] or DEFAULT_PORT) if found else 0
    if not found or not 0 < port <= _PORT_MAX:
        raise ValueError(f"{host!r} is not of the form host:port")
    return Address((found["ipv6"] or found["name"]).lower(), port)
