"""Named SQL statements, read from the .sql files beside this module."""

from importlib.resources import files


def load_statements(filename: str) -> dict[str, str]:
    """Return the statements of a file by name. A statement starts at a line `-- name: NAME`."""
    statements: dict[str, str] = {}
    text = files("pipeline.storage").joinpath(filename).read_text(encoding="utf-8")
    for block in text.split("-- name: ")[1:]:
        name, _, body = block.partition("\n")
        statements[name.strip()] = body.strip().rstrip(";")
    return statements


INTAKE = load_statements("intake.sql")
OUTBOX = load_statements("outbox.sql")
EFFECTS = load_statements("effects.sql")
STATUS = load_statements("status.sql")
FENCE = load_statements("fence.sql")
MOVES = load_statements("moves.sql")
