"""`postorder api`: tokens for the HTTP API."""

import re
from typing import Annotated, Final

import typer

from consumers.api.callers import Access
from consumers.command import ConfigOption, settings_from
from pipeline.clock import SystemClock
from pipeline.errors import SettingsError

api_app = typer.Typer(help="The HTTP API.", no_args_is_help=True)

_TIME: Final = re.compile(r"([1-9][0-9]{0,5})(s|m|h)")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600}


@api_app.command()
def token(
    subject: Annotated[str, typer.Option(help="Whose token it is: a login name, or a program's.")],
    role: Annotated[
        Access, typer.Option(help="What it allows; each more than the one before.")
    ] = Access.READ,
    ttl: Annotated[str, typer.Option(help="For how long: 90s, 15m, 1h.")] = "15m",
    config: ConfigOption = None,
) -> None:
    """Make a token and print it. Signed by `api.secret`; whoever holds it is the subject until it ends."""
    from consumers.api.tokens import make_token  # noqa: PLC0415  # commands load only what they need

    found = _TIME.fullmatch(ttl.strip())
    if found is None:
        raise SettingsError([f"--ttl: must be a time such as 90s, 15m or 1h, not {ttl!r}"])
    lifetime_s = int(found[1]) * _SECONDS[found[2]]
    api = settings_from(config).api
    typer.echo(make_token(api, subject=subject, access=role, lifetime_s=lifetime_s, clock=SystemClock()))
