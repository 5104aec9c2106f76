"""A shard's address in the words of libpq, for the server that reads from it."""

from pipeline.dsn import parse_dsn
from pipeline.settings import ShardSettings

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
    dsn = parse_dsn(shard.primary)
    values = {
        "host": ",".join(address.host for address in dsn.addresses),
        "port": ",".join(str(address.port) for address in dsn.addresses),
        "user": dsn.user,
        "password": shard.password or dsn.password,
        "dbname": dsn.database,
        **({"target_session_attrs": "read-write"} if len(dsn.addresses) > 1 else {}),
        **_ALWAYS,
        **{name: value for name, value in dsn.parameters.items() if name.startswith("ssl")},
    }
    return " ".join(f"{name}={_quoted(value)}" for name, value in values.items() if value)


def _quoted(value: str) -> str:
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
