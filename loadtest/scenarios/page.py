"""A report as one HTML page without outside resources: readable on a phone, in light and dark."""

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path

import msgspec

from loadtest.scenarios import plots
from loadtest.scenarios.bottleneck import heaviest
from loadtest.scenarios.limits import AT_LIMIT, at_limit
from loadtest.scenarios.report import Report

STYLE = """
:root{color-scheme:light dark;--line:#d0d4da;--soft:#f4f5f7;--good:#17743b;--bad:#b3261e;
--text:#1b1f24;--page:#fff}
@media (prefers-color-scheme:dark){:root{--line:#3a4048;--soft:#1f2329;--good:#5fd38d;--bad:#ff8a80;
--text:#e6e8eb;--page:#14171b}}
*{box-sizing:border-box}
body{font:16px/1.5 system-ui,sans-serif;color:var(--text);background:var(--page);max-width:64rem;
margin:0 auto;padding:1rem}
h1{font-size:1.6rem;margin:.5rem 0}h2{font-size:1.2rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}code{overflow-wrap:anywhere}
.scroll{overflow-x:auto}svg{width:100%;min-width:34rem;height:auto;color:var(--text)}
table{border-collapse:collapse;width:100%}
td,th{padding:.25rem .6rem;text-align:right;border-bottom:1px solid var(--line);white-space:nowrap}
td:first-child,th:first-child,.two td:nth-child(2),.two th:nth-child(2){text-align:left}
td.text{white-space:normal;text-align:left;min-width:14rem}
@media (max-width:40rem){td:first-child{white-space:normal;overflow-wrap:anywhere}}
details{margin:1rem 0}summary{cursor:pointer}
.verdict{border-left:.4rem solid var(--good);background:var(--soft);padding:.6rem 1rem;font-weight:600}
.verdict.bad{border-color:var(--bad)}.good{color:var(--good)}.bad{color:var(--bad)}
li{margin:.2rem 0}.tiles{display:grid;grid-template-columns:repeat(auto-fit,minmax(9rem,1fr));gap:.6rem}
.tile{background:var(--soft);padding:.6rem .8rem}.tile b{display:block;font-size:1.4rem}
"""


def write_page(report: Report, path: Path) -> None:
    """Write the page."""
    path.write_text(page_of(report), encoding="utf-8")


def page_of(report: Report) -> str:
    """Return the page."""
    scenario = report.scenario
    title = f"Load test: {scenario.name}"
    body = "".join(
        [
            f"<h1>{escape(title)}</h1><p>{escape(scenario.purpose)}</p>",
            f"<p>{escape(report.at)}. {escape(report.machine)}. {escape(report.target)}.<br>",
            f"<code>{escape(report.command)}</code></p>",
            _verdict(report),
            _tiles(report),
            _bottleneck(report),
            _thresholds(report),
            _knee(report),
            _phases(report),
            _plots(report),
            _latencies(report),
            _limits(report),
            _conservation(report),
            _about(report),
        ]
    )
    return (
        f"<!doctype html><html lang=en><head><meta charset=utf-8><title>{escape(title)}</title>"
        '<meta name=viewport content="width=device-width,initial-scale=1">'
        f"<style>{STYLE}</style></head><body><main>{body}</main></body></html>"
    )


def verdict_of(report: Report) -> tuple[bool, str]:
    """Return whether it passed, and the sentence that says so."""
    if report.interrupted:
        return False, "Interrupted: what was seen up to then."
    if not report.valid:
        return False, "Not valid: the load was not the one that was planned."
    if report.problems:
        return False, "It does not add up."
    missed = sum(not threshold.kept for threshold in report.thresholds)
    if missed:
        return False, f"{missed} of {len(report.thresholds)} thresholds missed. Everything adds up."
    return True, "Passed: everything adds up, every threshold kept."


def _verdict(report: Report) -> str:
    good, text = verdict_of(report)
    reasons = [*report.invalid_because, *report.problems]
    kind = "verdict" if good else "verdict bad"
    return f'<p class="{kind}" role=status>{escape(text)}</p>{_list(reasons)}'


def _tiles(report: Report) -> str:
    found: list[tuple[str, str]]
    if report.knee is not None:
        knee = report.knee
        found = [
            ("orders a minute at the knee", f"{knee.orders_per_min:,.0f}"),
            ("invoices a minute", f"{knee.invoices_per_min:,.0f}"),
            ("SMS a minute", f"{knee.sms_per_min:,.0f}"),
            ("mails a minute", f"{knee.mails_per_min:,.0f}"),
            ("events a second", f"{knee.events_per_s:,.0f}"),
        ]
    elif report.drained is not None:
        drained = report.drained
        found = [
            ("orders a minute, from a backlog", f"{60 * drained.orders_per_s:,.0f}"),
            ("invoices a minute", f"{60 * drained.invoices_per_s:,.0f}"),
            ("SMS a minute", f"{60 * drained.sms_per_s:,.0f}"),
            ("mails a minute", f"{60 * drained.mails_per_s:,.0f}"),
            ("events a second", f"{drained.events_per_s:,.0f}"),
            ("seconds it took", f"{drained.seconds:,.1f}"),
        ]
    else:
        peaks = report.peaks
        found = [
            ("orders a minute, at most", f"{peaks.orders_per_min:,.0f}"),
            ("invoices a minute", f"{peaks.invoices_per_min:,.0f}"),
            ("SMS a minute", f"{peaks.sms_per_min:,.0f}"),
            ("mails a minute", f"{peaks.mails_per_min:,.0f}"),
            ("events a second", f"{peaks.events_per_s:,.0f}"),
        ]
    cells = "".join(f"<div class=tile><b>{value}</b>{escape(name)}</div>" for name, value in found)
    return f"<div class=tiles>{cells}</div>"


def _bottleneck(report: Report) -> str:
    found = report.bottleneck
    if found is None:
        return ""
    head = found.name if found.reached else f"none reached; nearest: {found.name}"
    return f"<h2>Bottleneck: {escape(head)}</h2><p>In {escape(found.phase)}.</p>{_list(found.evidence)}"


def _thresholds(report: Report) -> str:
    if not report.thresholds:
        return ""
    rows = [
        (
            escape(each.figure),
            escape(each.wanted),
            each.said[0],
            f'<span class="{"good" if each.kept else "bad"}">{each.said[1]}</span>',
        )
        for each in report.thresholds
    ]
    return f"<h2>Thresholds</h2>{_table(('figure', 'wanted', 'measured', ''), rows)}"


def _knee(report: Report) -> str:
    if report.knee is None:
        return ""
    rows = [
        (
            f"{step.orders_per_s:,.0f} orders/s",
            *(f"{step.lag_s.get(name, 0.0):.2f}" for name in ("committed", "sms", "mail")),
            f"{step.p99_ms:,.0f}",
            '<span class="good">sustained</span>'
            if not step.broken
            else f'<span class="bad">{escape("; ".join(step.broken))}</span>',
        )
        for step in report.knee.steps
    ]
    of = escape(report.scenario.ramp.p99_of if report.scenario.ramp else "")
    heads = ("step", "open: orders, s", "SMS, s", "mails, s", f"{of} p99, ms", "")
    note = "<p>No step broke: the knee is higher than this ramp goes.</p>" if report.knee.is_higher else ""
    return f"<h2>Knee: {report.knee.orders_per_s:,.0f} orders a second</h2>{note}{_table(heads, rows)}"


def _phases(report: Report) -> str:
    rows = [
        (
            escape(phase.name),
            f"{phase.begin_s:.0f} to {phase.end_s:.0f} s",
            f"{phase.orders_per_s:,.1f}",
            f"{phase.machine_cores:.2f}",
            f"{phase.late_p99_ms:.1f}",
            escape("; ".join(phase.faults)),
        )
        for phase in report.phases
    ]
    heads = ("phase", "when", "orders/s", "cores busy", "generator late, p99 ms", "fault")
    return f"<h2>Phases</h2>{_table(heads, rows, kind='two')}"


def _latencies(report: Report) -> str:
    """Return the ways that customers see, and the others to be opened."""
    shown = [row for way, row in _latency_rows(report) if way in plots.WAYS]
    others = [row for way, row in _latency_rows(report) if way not in plots.WAYS]
    heads = ("phase", "from the planned moment to", "came", "missing", "p50", "p90", "p99", "p99.9", "max")
    inner = _table(("phase", "stage, or shard", *heads[2:]), others, kind="two")
    return (
        f"<h2>Latency, ms</h2>{_table(heads, shown, kind='two')}"
        f"<details><summary>By stage and by shard</summary>{inner}</details>"
    )


def _latency_rows(report: Report) -> Iterator[tuple[str, tuple[str, ...]]]:
    for phase in report.phases:
        for way, one in phase.latencies.items() if phase.measured else ():
            values = (one.p50_ms, one.p90_ms, one.p99_ms, one.p999_ms, one.max_ms)
            yield (
                way,
                (
                    escape(phase.name),
                    escape(plots.label_of(way)),
                    f"{one.count:,}",
                    f"{one.missing:,}",
                    *(f"{value:,.1f}" for value in values),
                ),
            )


def _plots(report: Report) -> str:
    parts = [
        ("Rates", plots.rates(report)),
        ("Latency over time", plots.latency_over_time(report)),
        ("What waited", plots.backlog(report)),
        ("CPU", plots.cpu(report)),
        ("Allocator", plots.allocator(report)),
    ]
    if (phase := heaviest(report.phases)) is not None:
        parts.append((f"Distribution in {phase.name}", plots.percentiles(phase)))
    return "".join(
        f'<h2>{escape(name)}</h2><div class=scroll role=img aria-label="{escape(name)}">{svg}</div>'
        for name, svg in parts
        if svg
    )


def _limits(report: Report) -> str:
    if not report.limits:
        return ""
    rows = [
        (
            escape(limit.component),
            f"{limit.cpu_us_per_order:,.0f}",
            "one" if limit.cores_max == 1 else "all",
            *(f"{value:,.0f}" if value else "-" for value in at_limit(limit)),
        )
        for limit in report.limits
    ]
    heads = ("component", "µs of CPU per order", "cores it can use", *AT_LIMIT)
    note = (
        "<p>If it had those cores for itself, at this run's mix of work; the lowest first. Small batches "
        "cost more, so that what a light load shows is less than what could be done.</p>"
    )
    return f"<h2>The limit of each component, by its CPU</h2>{note}{_table(heads, rows)}"


def _conservation(report: Report) -> str:
    found = msgspec.structs.asdict(report.conservation)
    rows = [
        (escape(name.replace("_", " ")), "not asked" if value is None else f"{value:,}")
        for name, value in found.items()
    ]
    return f"<h2>Conservation</h2>{_table(('', 'messages and events'), rows)}"


def _about(report: Report) -> str:
    return (
        "<h2>How it was measured</h2><p>Latency counts from the planned moment of publishing, whether or not "
        "the generator or the pipeline kept up. <em>Committed</em> is when a reader first saw the batch on "
        "the primary, <em>visible on the replica</em> when one saw it there: late by "
        f"{report.resolution_ms:g} ms at most (p99), never early. Messages were accepted when "
        f"{escape(report.source)} says so. Clocks of the servers agree with this program's to "
        f"{report.clock_error_ms:.2f} ms. The generator's events left {report.generator_late_p99_ms:.1f} ms "
        f"late (p99), and it waited {report.generator_blocked_s:.1f} s for the broker. All CPU, of the load "
        "test too, is of the one machine.</p>"
    )


def _list(lines: Iterable[str]) -> str:
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return f"<ul>{items}</ul>" if items else ""


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]], *, kind: str = "") -> str:
    """Return a table of cells that are HTML already. Long texts may wrap."""
    head = "".join(f"<th scope=col>{escape(name)}</th>" for name in heads)
    body = "".join(f"<tr>{''.join(map(_cell, row))}</tr>" for row in rows)
    table = f'<table class="{kind}"><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>'
    return f"<div class=scroll tabindex=0>{table}</div>"


def _cell(content: str) -> str:
    is_long = len(content) > 40  # noqa: PLR2004  # characters
    return f'<td class="text">{content}</td>' if is_long else f"<td>{content}</td>"
