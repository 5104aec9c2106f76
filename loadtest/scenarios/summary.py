"""A report on the terminal."""

from rich.console import Console
from rich.table import Table

from loadtest.scenarios.knee import Knee
from loadtest.scenarios.limits import AT_LIMIT, at_limit
from loadtest.scenarios.page import verdict_of
from loadtest.scenarios.plots import WAYS, label_of
from loadtest.scenarios.report import Report


def print_summary(report: Report, console: Console) -> None:
    """Print the verdict, the phases, the bottleneck and what does not add up."""
    if report.knee is None:
        _latencies(report, console)
    else:
        knee = report.knee
        _steps(knee, console)
        console.print(
            f"knee: {knee.orders_per_s:,.0f} orders/s, {knee.events_per_s:,.0f} events/s; a minute: "
            f"{knee.orders_per_min:,.0f} orders, {knee.invoices_per_min:,.0f} invoices, "
            f"{knee.sms_per_min:,.0f} SMS, {knee.mails_per_min:,.0f} mails"
            f"{' (no step broke)' if knee.is_higher else ''}",
            highlight=False,
        )
    peaks = report.peaks
    console.print(
        f"at most, a minute: {peaks.orders_per_min:,.0f} orders, {peaks.invoices_per_min:,.0f} invoices, "
        f"{peaks.sms_per_min:,.0f} SMS, {peaks.mails_per_min:,.0f} mails",
        highlight=False,
    )
    if report.drained is not None:
        drained = report.drained
        console.print(
            f"backlog gone in {drained.seconds:,.1f} s: {drained.events_per_s:,.0f} events/s; a minute: "
            f"{60 * drained.orders_per_s:,.0f} orders, {60 * drained.invoices_per_s:,.0f} invoices, "
            f"{60 * drained.sms_per_s:,.0f} SMS, {60 * drained.mails_per_s:,.0f} mails",
            highlight=False,
        )
    if report.limits:
        _limits(report, console)
    if report.bottleneck is not None:
        found = report.bottleneck
        head = found.name if found.reached else f"none reached; nearest: {found.name}"
        console.print(f"bottleneck: {head} (in {found.phase})", highlight=False)
        for line in found.evidence:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for kept in report.thresholds:
        measured, verdict = kept.said
        console.print(f"{verdict:6} {kept.figure} {kept.wanted}: {measured}", highlight=False)
    for line in (*report.invalid_because, *report.problems):
        console.print(f"! {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(verdict_of(report)[1])


def _limits(report: Report, console: Console) -> None:
    title = "The limit of each component by its CPU; orders to mails: a minute"
    table = Table("component", title=title, title_justify="left")
    for name in ("µs/order", *(head.removesuffix("/min") for head in AT_LIMIT)):
        table.add_column(name, justify="right", no_wrap=True)
    for limit in report.limits:
        values = (f"{value:,.0f}" if value else "-" for value in at_limit(limit))
        table.add_row(limit.component, f"{limit.cpu_us_per_order:,.0f}", *values)
    console.print(table)


def _latencies(report: Report, console: Console) -> None:
    table = Table("phase", "planned to", title="Latency, ms", title_justify="left")
    for name in ("came", "missing", "p50", "p99", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    for phase in report.phases:
        for way, latency in phase.latencies.items() if phase.measured else ():
            if way in WAYS:
                values = (latency.p50_ms, latency.p99_ms, latency.max_ms)
                counts = (f"{latency.count:,}", f"{latency.missing:,}")
                table.add_row(phase.name, label_of(way), *counts, *(f"{value:,.1f}" for value in values))
    console.print(table)


def _steps(knee: Knee, console: Console) -> None:
    table = Table("orders/s", title="Steps", title_justify="left")
    for name in ("orders open, s", "SMS, s", "mails, s", "p99, ms"):
        table.add_column(name, justify="right")
    table.add_column("")
    for step in knee.steps:
        lags = (f"{step.lag_s.get(name, 0.0):.1f}" for name in ("committed", "sms", "mail"))
        words = "; ".join(step.broken) or "sustained"
        table.add_row(f"{step.orders_per_s:,.0f}", *lags, f"{step.p99_ms:,.0f}", words)
    console.print(table)
