"""`python -m loadtest.planning.simulation.pictures`: a picture for each scenario of a study, for the docs."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer

from loadtest.planning.simulation import plots
from loadtest.planning.simulation.study import Study
from loadtest.scenarios.picture import on_paper
from pipeline.errors import SettingsError


def write_pictures(study: Study, folder: Path) -> list[Path]:
    """Write FOLDER/simulation-NAME.svg: how busy each shard is for the skew, for the others p99 over time."""
    written = []
    for number, outcome in enumerate(study.outcomes):
        if number == 0:
            svg = plots.by_shard(outcome.busy, "busy, share of the time", study.busy_share)
        else:
            svg = plots.latency(outcome.line)
        path = folder / f"simulation-{outcome.name.replace(' ', '-')}.svg"
        path.write_text(on_paper(svg), encoding="utf-8")
        written.append(path)
    return written


def main(
    study: Annotated[Path, typer.Argument(help="simulation.json of `postorder plan --simulate`.")],
    folder: Annotated[Path, typer.Argument(help="Where the pictures go.")],
) -> None:
    """Write them."""
    try:
        found = msgspec.json.decode(study.read_bytes(), type=Study)
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError([f"{study}: {error}"]) from error
    for path in write_pictures(found, folder):
        typer.echo(f"{path} written")


if __name__ == "__main__":
    typer.run(main)
