"""A report on the terminal."""

from rich.console import Console
from rich.table import Table

from loadtest.scenarios.page import verdict_of
from loadtest.scenarios.plots import label_of
from loadtest.scenarios.report import Report


def print_summary(report: Report, console: Console) -> None:
    """Print the verdict, the phases, the bottleneck and what does not add up."""
    _latencies(report, console)
    if report.knee is not None:
        knee = report.knee
        console.print(
            f"knee: {knee.orders_per_s:,.0f} orders/s, {knee.events_per_s:,.0f} events/s; a minute: "
            f"{knee.orders_per_min:,.0f} orders, {knee.invoices_per_min:,.0f} invoices, "
            f"{knee.sms_per_min:,.0f} SMS, {knee.mails_per_min:,.0f} mails"
            f"{'' if knee.bound else ' (no step broke)'}",
            highlight=False,
        )
    peaks = report.peaks
    console.print(
        f"at most, a minute: {peaks.orders_per_min:,.0f} orders, {peaks.invoices_per_min:,.0f} invoices, "
        f"{peaks.sms_per_min:,.0f} SMS, {peaks.mails_per_min:,.0f} mails",
        highlight=False,
    )
    if report.bottleneck is not None:
        found = report.bottleneck
        head = found.name if found.reached else f"none reached; nearest: {found.name}"
        console.print(f"bottleneck: {head} (in {found.phase})", highlight=False)
        for line in found.evidence:
            console.print(f"  {line}", highlight=False, markup=False, soft_wrap=True)
    for kept in report.thresholds:
        measured = "not measured" if kept.measured is None else f"{kept.measured:,.4g}"
        console.print(
            f"{'kept  ' if kept.kept else 'missed'} {kept.figure} {kept.wanted}: {measured}", highlight=False
        )
    for line in (*report.invalid_because, *report.problems):
        console.print(f"! {line}", highlight=False, markup=False, soft_wrap=True)
    console.print(verdict_of(report)[1])


def _latencies(report: Report, console: Console) -> None:
    table = Table("phase", "planned to", title="Latency, ms", title_justify="left")
    for name in ("came", "missing", "p50", "p99", "p99.9", "max"):
        table.add_column(name, justify="right")
    for phase in report.phases:
        if not phase.measured:
            continue
        for way, latency in phase.latencies.items():
            table.add_row(
                phase.name,
                label_of(way),
                f"{latency.count:,}",
                f"{latency.missing:,}",
                *(
                    f"{value:,.1f}"
                    for value in (latency.p50_ms, latency.p99_ms, latency.p999_ms, latency.max_ms)
                ),
            )
    console.print(table)
