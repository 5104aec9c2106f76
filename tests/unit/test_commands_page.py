"""docs/reference/commands.md names every command and every option there is."""

from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.core import TyperCommand, TyperGroup

from consumers.cli import app
from consumers.lazy_group import ListedCommand

PAGE = Path(__file__).parents[2] / "docs/reference/commands.md"
EVERYWHERE = {"--config", "--help", "--install-completion", "--show-completion"}


def commands(command: TyperCommand | TyperGroup, *path: str) -> Iterator[tuple[tuple[str, ...], set[str]]]:
    """Yield every command that does something, with its options."""
    if isinstance(command, ListedCommand):
        command = command.loaded()
    options = {name for parameter in command.params for name in parameter.opts if name.startswith("--")}
    if not isinstance(command, TyperGroup) or command.invoke_without_command:
        yield path, options - EVERYWHERE
    if isinstance(command, TyperGroup):
        for name, inner in command.commands.items():
            yield from commands(inner, *path, name)


@pytest.mark.parametrize(
    ("path", "options"),
    [pytest.param(*found, id=" ".join(found[0])) for found in commands(typer.main.get_command(app))],
)
def test_a_command_and_its_options_are_on_the_page(path: tuple[str, ...], options: set[str]) -> None:
    rows = [row for row in PAGE.read_text().splitlines() if f"`postorder {path[0]}" in row]
    words = {word for row in rows for word in row.replace("\\|", " ").replace("`", " ").split()}
    words = {word.strip("[](),;…") for word in words}
    assert set(path) <= words
    assert options <= words
