"""The migrations as files: migrations/NNNN_{expand|contract}_what.sql, in order, each with its checksum.

`expand` adds; programs of the version before go on working beside it. `contract` takes away what no program
uses any more.
"""

import re
from hashlib import sha256
from pathlib import Path

import msgspec

from pipeline.errors import MigrationError

_FILE_NAME = re.compile(r"(?P<number>\d{4})_(?P<phase>expand|contract)_(?P<what>[a-z0-9_]+)\.sql")
_OUTSIDE = "-- outside a transaction\n"
_TOP = Path(__file__).parents[2]
# In an installed package they lie beside the commands, in a checkout at its top. Where packages are installed
# the top may hold a `migrations` of somebody else's.
_PLACES = (_TOP / "consumers" / "migrations", _TOP / "migrations")
MIGRATIONS = next((place for place in _PLACES if place.is_dir()), _PLACES[-1])


class Migration(msgspec.Struct, frozen=True):
    """One file. `checksum` is SHA-256 of its bytes in hexadecimal."""

    number: int
    name: str
    sql: str
    checksum: str

    @property
    def outside_statements(self) -> list[str] | None:
        """The statements to run one by one outside a transaction; None for the usual kind, that runs in one.

        For CREATE INDEX CONCURRENTLY, which does not lock a large table. Such a file says so in its first
        line, can be run again after it broke off anywhere, and has a semicolon at a line's end only where a
        statement ends.
        """
        if not self.sql.startswith(_OUTSIDE):
            return None
        return [part.strip() for part in self.sql.removeprefix(_OUTSIDE).split(";\n") if part.strip()]


def is_contract(name: str) -> bool:
    """Return whether a migration takes something away, by its name."""
    return "_contract_" in name[:14]


def read_migrations(folder: Path = MIGRATIONS) -> list[Migration]:
    """Return the migrations of a folder in order. Raises MigrationError for a bad name or a gap."""
    migrations = []
    for path in sorted(folder.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if not match:
            raise MigrationError(
                f"{path.name}: not of the form NNNN_expand_what.sql or NNNN_contract_what.sql"
            )
        text = path.read_text(encoding="utf-8")
        migrations.append(Migration(int(match["number"]), path.stem, text, sha256(text.encode()).hexdigest()))
    if not migrations:
        raise MigrationError(f"no migrations in {folder}")
    for expected, migration in enumerate(migrations, start=1):
        if migration.number != expected:
            raise MigrationError(f"{migration.name}: expected number {expected:04d}")
    return migrations
