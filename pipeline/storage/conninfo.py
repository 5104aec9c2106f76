"""A shard's address in the words of libpq, for the server that reads from it."""

from urllib.parse import parse_qsl, unquote, urlsplit

from pipeline.settings import ShardSettings

_DEFAULT_PORT = "5432"
# A peer that is gone without a word is noticed, as by our own connections.
_ALWAYS = {
    "connect_timeout": "5",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
    "tcp_user_timeout": "10000",
}


def conninfo_of(shard: ShardSettings) -> str:
    """Return libpq's connection string to a shard's primary, password included: never to be shown."""
    parts = urlsplit(shard.primary)
    user, _, hosts = parts.netloc.rpartition("@")
    addresses = [_address(host) for host in hosts.split(",")]
    values = {
        "host": ",".join(host for host, _ in addresses),
        "port": ",".join(port for _, port in addresses),
        "user": unquote(user.partition(":")[0]),
        "password": shard.password or unquote(user.partition(":")[2]),
        "dbname": unquote(parts.path.lstrip("/")),
        **({"target_session_attrs": "read-write"} if len(addresses) > 1 else {}),
        **_ALWAYS,
        **{name: value for name, value in parse_qsl(parts.query) if name.startswith("ssl")},
    }
    return " ".join(f"{name}={_quoted(value)}" for name, value in values.items() if value)


def _address(host: str) -> tuple[str, str]:
    if host.startswith("["):
        name, _, port = host[1:].partition("]")
        return name, port.lstrip(":") or _DEFAULT_PORT
    name, _, port = host.partition(":")
    return name, port or _DEFAULT_PORT


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
