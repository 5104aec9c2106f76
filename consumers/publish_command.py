"""`postorder publish`: events out of files, or out of documents of other systems."""

from pathlib import Path
from typing import Annotated

import typer

from consumers.command import ConfigOption, run_async, settings_from
from consumers.publishing import publish_files
from pipeline.adapters.mapping import load_adapter
from pipeline.errors import SettingsError


def publish(
    files: Annotated[list[Path], typer.Argument(help="JSON, JSON lines or an array; - is standard input.")],
    upstream: Annotated[
        str,
        typer.Option(
            "--from",
            help="The files hold documents of: shopify, woocommerce, stripe, square, saleor, or FILE.toml.",
        ),
    ] = "",
    header: Annotated[
        list[str] | None, typer.Option(help="A webhook's header, 'Name: value'; may be repeated.")
    ] = None,
    config: ConfigOption = None,
) -> None:
    """Publish events, each with the broker's confirm. Bad ones are named and not published."""
    adapter = load_adapter(upstream) if upstream else None
    headers = _headers(header or [])
    result = run_async(publish_files(settings_from(config), files, adapter, headers))
    for problem in result.problems:
        typer.echo(f"postorder: {problem}", err=True)
    typer.echo(f"{result.confirmed} events confirmed")
    raise typer.Exit(1 if result.problems else 0)


def _headers(given: list[str]) -> dict[str, str]:
    pairs = [text.partition(":") for text in given]
    wrong = [f"--header: must be 'Name: value', not {name!r}" for name, colon, _ in pairs if not colon]
    if wrong:
        raise SettingsError(wrong)
    return {name.strip(): value.strip() for name, _, value in pairs}
