"""The group of `postorder loadtest`, which takes a scenario's name for `run` of it."""

from difflib import get_close_matches
from typing import Any

from typer.core import TyperGroup

from loadtest.scenarios.catalogue import SCENARIOS

_RUN = "run"


class ScenarioGroup(TyperGroup):
    """`loadtest steady` is `loadtest run steady`, and so is a FILE.toml; all options of `run` go with it."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        self.subcommand_metavar = "SCENARIO|FILE.toml|COMMAND [ARGS]..."
        self.suggest_commands = False  # it knows none of the scenarios

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Return the command of a line. Ends with status 2 for a name that is none, naming the nearest."""
        name = args[0]
        if name not in self.commands and (name in SCENARIOS or name.endswith(".toml")):
            return super().resolve_command(ctx, [_RUN, *args])
        if name not in self.commands and not name.startswith("-") and not ctx.resilient_parsing:
            near = get_close_matches(name, [*self.commands, *SCENARIOS])
            hint = (
                f" Did you mean {', '.join(map(repr, near))}?" if near else " See `postorder loadtest list`."
            )
            ctx.fail(f"No such scenario or command {name!r}.{hint}")
        return super().resolve_command(ctx, args)
