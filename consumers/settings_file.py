"""Changes to the settings file that commands make. Comments and order stay as they are."""

from pathlib import Path

import tomlkit

from pipeline.errors import SettingsError
from stack.files import replace_file


def make_replica_primary(path: Path, shard: str) -> None:
    """Let a shard's replica be its primary, and the shard be without a replica. Raises SettingsError.

    The old primary's address goes: whatever comes back there holds a history of its own.
    """
    document = tomlkit.parse(path.read_text(encoding="utf-8"))
    for table in document.get("shards", []):
        if table.get("name") == shard and table.get("replica"):
            table["primary"] = table["replica"]
            del table["replica"]
            replace_file(path, tomlkit.dumps(document))
            return
    raise SettingsError([f"{path}: shards.{shard}: has no replica here: change the settings by hand"])
