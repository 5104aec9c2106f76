"""A group of commands that imports a command's module when that command is called, and not to list it.

Typer builds every command of every application it is given, for which each has to be imported. Here the group
holds a name and a line of help for each instead; the rest is read when a command is run, asked for its own
help, or completed.
"""

from collections.abc import Mapping
from importlib import import_module
from typing import Any, ClassVar, NamedTuple, cast

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_command


class Entry(NamedTuple):
    """`target`: `module:name` of a Typer application or of a function. `help`: the first line of its help."""

    target: str
    help: str


class ListedCommand(TyperCommand):
    """A command as it stands in the list. Whoever wants to do more than name it gets the real one."""

    def __init__(self, name: str, entry: Entry) -> None:
        super().__init__(name=name, help=entry.help)
        self._target = entry.target

    def loaded(self) -> TyperCommand | TyperGroup:
        """Import the command and return it as Typer builds it."""
        module, name = self._target.split(":")
        return _built(str(self.name), getattr(import_module(module), name))

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> Any:
        """Return the context of the real command: from here on, nobody sees this one."""
        return self.loaded().make_context(info_name, args, parent, **extra)


class LazyGroup(TyperGroup):
    """The group of `entries`; each program derives its own."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, entry in self.entries.items():
            self.add_command(ListedCommand(name, entry), name)


def _built(name: str, found: Any) -> TyperCommand | TyperGroup:
    # Typer's own way to a command, with the settings of the program: an application of this one alone.
    holder = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    holder.callback()(_nothing)
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    group = cast("TyperGroup", get_command(holder))
    return cast("TyperCommand | TyperGroup", group.commands[name])


def _nothing() -> None:
    """Be there: without a callback Typer takes a single command for the whole program."""
