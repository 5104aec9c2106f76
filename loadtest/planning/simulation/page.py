"""A study as one HTML page without outside resources: readable on a phone, in light and dark."""

from html import escape
from pathlib import Path

from loadtest.planning.simulation import plots
from loadtest.planning.simulation.figures import Spread
from loadtest.planning.simulation.scenarios import Outcome
from loadtest.planning.simulation.study import Study
from loadtest.scenarios.page import STYLE

_BATCHES = (
    "<h2>Shards of one installation, and batches</h2><p>A consumer shares its events out over all shards, so "
    "with many shards its transactions are small, and small transactions cost more.</p>"
)


def write_page(study: Study, path: Path) -> None:
    """Write the page."""
    given = study.installation
    intro = (
        f"{given.events_per_s:,.0f} events/s on {given.shards} shards, {study.busy_share:.0%} busy on "
        f"average; seed {given.seed}. Slots are placed by the pipeline's own ring and router."
    )
    body = "".join(
        [
            "<h1>Simulation of many shards</h1>",
            f"<p>{escape(study.at)}. {escape(study.machine)}. <code>{escape(study.command)}</code></p>",
            f"<p>{escape(intro)}</p>",
            *(_section(outcome, study.busy_share) for outcome in study.outcomes),
            _BATCHES,
            _figure(plots.batches(study.batches)),
        ]
    )
    path.write_text(
        "<!doctype html><html lang=en><head><meta charset=utf-8><title>Simulation of many shards</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{body}</main></body></html>",
        encoding="utf-8",
    )


def _section(outcome: Outcome, busy_share: float) -> str:
    notes = "".join(f"<li>{escape(note)}</li>" for note in outcome.notes)
    busy = plots.by_shard(outcome.busy, "busy, share of the time", busy_share)
    p99 = plots.by_shard(outcome.p99_by_shard_ms, "p99, ms")
    return (
        f"<h2>{escape(outcome.name.capitalize())}: {escape(outcome.what)}</h2><ul>{notes}</ul>"
        f"{_table(outcome)}{_figure(plots.latency(outcome.line))}{_figure(busy)}{_figure(p99)}"
    )


def _table(outcome: Outcome) -> str:
    rows: list[tuple[str, Spread]] = [("all events", outcome.everything)]
    if outcome.affected.events:
        rows += [("affected", outcome.affected), ("the others", outcome.others)]
    cells = "".join(
        f"<tr><td>{name}<td>{one.events:,}<td>{one.p50_ms:,.0f}<td>{one.p99_ms:,.0f}<td>{one.max_ms:,.0f}</tr>"
        for name, one in rows
    )
    head = "<tr><th><th>events<th>p50 ms<th>p99 ms<th>longest ms</tr>"
    return f"<div class=scroll><table>{head}{cells}</table></div>"


def _figure(svg: str) -> str:
    return f"<div class=scroll>{svg}</div>"
