"""Tables of commands: wide where nobody's window is too narrow for them, and nothing in them cut off."""

import os
import sys
from collections.abc import Iterable, Sequence
from typing import Final

from rich.console import Console
from rich.measure import Measurement
from rich.table import Column, Table

_WIDE: Final = 1000


def standard_output() -> Console:
    """Return what prints on standard output: as wide as the terminal, and without limit into a pipe or file.

    `COLUMNS` in the environment sets another width. A text such as `:100:` in an id stays as it is.
    """
    is_limited = sys.stdout.isatty() or os.environ.get("COLUMNS", "").isdigit()
    return Console(width=None if is_limited else _WIDE, emoji=False)


def facts() -> Table:
    """Return an empty table of names and values, in which a long value is folded."""
    return Table(Column(no_wrap=True), Column(overflow="fold"), show_header=False)


def print_records(names: Sequence[str], records: Iterable[Sequence[str]], console: Console) -> None:
    """Print records as a table, a line each; where that is too wide, as blocks with a line for each value.

    Values are markup of the library's: escape what comes from elsewhere. Blocks leave empty ones out.
    """
    records = list(records)
    table = Table(*(Column(name, no_wrap=True) for name in names))
    for record in records:
        table.add_row(*record)
    if Measurement.get(console, console.options.update_width(_WIDE), table).maximum <= console.width:
        console.print(table)
        return
    blocks = facts()
    for record in records:
        for name, value in zip(names, record, strict=True):
            if value:
                blocks.add_row(name, value)
        blocks.add_section()
    console.print(blocks)
