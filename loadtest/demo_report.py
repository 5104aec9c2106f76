"""The demo's result: what came out against what went in, as a table and as JSON."""

from collections import Counter
from statistics import quantiles

import msgspec
from rich.console import Console
from rich.table import Table

from consumers.status import Status, accounting_text
from loadtest.history import Plan
from loadtest.metrics_page import percentile_of_buckets
from pipeline.storage.accounting import Accounting

_SHARES = (0.5, 0.9, 0.99)


class Totals(msgspec.Struct, frozen=True):
    """Everything countable at one moment; the demo compares two of these."""

    status: Status
    sms: int
    sms_twice: int
    mails: int
    mails_twice: int

    def total(self, name: str) -> int:
        """Return one of the status's totals."""
        return self.status.totals[name]

    def effects(self, channel: str, state: str) -> int:
        """Return how many messages of a channel are in a state."""
        return self.status.effects[channel].get(state, 0)


class Check(msgspec.Struct, frozen=True):
    """One number that must be right."""

    name: str
    expected: int
    found: int

    @property
    def passed(self) -> bool:
        """Whether it is."""
        return self.expected == self.found


class DemoReport(msgspec.Struct, frozen=True, kw_only=True):
    """What `postorder demo` found. Times in seconds, latencies in milliseconds, rates per minute."""

    passed: bool
    events_published: int
    published_s: float
    total_s: float
    per_min: dict[str, float]
    shards: dict[str, dict[str, int]]
    latency_ms: dict[str, dict[str, float | None]]
    checks: list[Check]
    accounting: Accounting


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured in one replay. `committed`: histogram of publish to committed, cumulative."""

    plan: Plan
    confirmed: int
    before: Totals
    after: Totals
    attachments: Counter[str]
    latencies_s: dict[str, list[float]]
    committed: list[tuple[float, float]]
    published_s: float
    total_s: float
    pipeline_exit: int | None

    def grown(self, name: str) -> int:
        """Return by how much one of the status's totals grew."""
        return self.after.total(name) - self.before.total(name)

    def settled(self, channel: str, *states: str) -> int:
        """Return how many messages of a channel came into one of the states."""
        return sum(self.after.effects(channel, s) - self.before.effects(channel, s) for s in states)


def make_report(outcome: Outcome) -> DemoReport:
    """Compare what came out with what was planned."""
    checks = _checks(outcome)
    done = {
        "orders": outcome.grown("orders"),
        "invoices": outcome.grown("invoices"),
        "sms": outcome.after.sms - outcome.before.sms,
        "mails": outcome.after.mails - outcome.before.mails,
    }
    return DemoReport(
        passed=all(check.passed for check in checks),
        events_published=outcome.confirmed,
        published_s=round(outcome.published_s, 2),
        total_s=round(outcome.total_s, 2),
        per_min={name: round(count / outcome.total_s * 60, 1) for name, count in done.items()},
        shards={
            name: {"slots": s.slots, "orders": s.orders, "invoices": s.invoices, "quarantined": s.quarantined}
            for name, s in outcome.after.status.shards.items()
        },
        latency_ms={
            "publish to committed": {
                f"p{share * 100:g}": _ms(percentile_of_buckets(outcome.committed, share)) for share in _SHARES
            },
            "publish to SMS accepted": _percentiles_ms(outcome.latencies_s["order_sms"]),
            "publish to order mail accepted": _percentiles_ms(outcome.latencies_s["order_email"]),
        },
        checks=checks,
        accounting=outcome.after.status.accounting,
    )


def _checks(outcome: Outcome) -> list[Check]:
    expected, before, after = outcome.plan.expected, outcome.before, outcome.after
    grown, settled = outcome.grown, outcome.settled
    sms_sent, mails_sent = after.sms - before.sms, after.mails - before.mails
    once = sum(outcome.attachments.get(digest, 0) == 1 for digest in expected.invoices_mailed)
    exit_status = -1 if outcome.pipeline_exit is None else outcome.pipeline_exit
    accounting = after.status.accounting
    return [
        Check("events confirmed by the broker", len(outcome.plan.publishes), outcome.confirmed),
        Check("orders stored", expected.orders, grown("orders")),
        Check("invoices stored", expected.invoices, grown("invoices")),
        Check("duplicates recognised", expected.duplicates, grown("duplicates")),
        Check("bad events in quarantine", expected.quarantined, grown("quarantined")),
        Check("SMS accepted by Twilio", expected.sms_accepted, sms_sent),
        Check("SMS recorded as accepted", sms_sent, settled("sms", "accepted", "delivered")),
        Check("SMS suppressed", expected.sms_suppressed, settled("sms", "suppressed")),
        Check("SMS sent twice", 0, after.sms_twice - before.sms_twice),
        Check("mails recorded as accepted", mails_sent, settled("email", "accepted", "delivered")),
        Check("mails sent twice", 0, after.mails_twice - before.mails_twice),
        Check("invoices mailed exactly once", len(expected.invoices_mailed), once),
        Check("messages without a known outcome", 0, settled("sms", "unknown") + settled("email", "unknown")),
        Check("messages failed", 0, settled("sms", "failed") + settled("email", "failed")),
        Check("difference: events", 0, accounting.events_difference),
        Check("difference: owed messages", 0, accounting.effects_difference),
        Check("messages still open", 0, accounting.open),
        Check("exit status of the pipeline", 0, exit_status),
    ]


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)


def _percentiles_ms(values_s: list[float]) -> dict[str, float | None]:
    if len(values_s) < 2:  # noqa: PLR2004  # no percentile of a single value
        return {f"p{share * 100:g}": None for share in _SHARES}
    cuts = quantiles(values_s, n=100, method="inclusive")
    return {f"p{share * 100:g}": _ms(cuts[round(share * 100) - 1]) for share in _SHARES}


# --- for people -------------------------------------------------------------------------------------


def print_report(report: DemoReport, console: Console) -> None:
    """Print the report."""
    for table in (_kpis(report), _shards(report), _latencies(report), _check_table(report)):
        console.print(table)
    console.print(accounting_text(report.accounting))
    verdict = "[green]everything adds up[/green]" if report.passed else "[red]it does not add up[/red]"
    console.print(f"\n{verdict}: {report.events_published} events in {report.total_s} s")


def _kpis(report: DemoReport) -> Table:
    table = Table(title="Per minute, averaged over the run", title_justify="left")
    for name in report.per_min:
        table.add_column(name, justify="right")
    table.add_row(*(f"{value:,.0f}" for value in report.per_min.values()))
    return table


def _shards(report: DemoReport) -> Table:
    table = Table(title="Per shard, in all", title_justify="left")
    table.add_column("shard")
    for name in next(iter(report.shards.values())):
        table.add_column(name, justify="right")
    for name, counts in report.shards.items():
        table.add_row(name, *(f"{count:,}" for count in counts.values()))
    return table


def _latencies(report: DemoReport) -> Table:
    table = Table(title="Latency in ms", title_justify="left")
    table.add_column("from publish to")
    for share in _SHARES:
        table.add_column(f"p{share * 100:g}", justify="right")
    for name, values in report.latency_ms.items():
        label = name.removeprefix("publish to ")
        table.add_row(label, *("-" if v is None else f"{v:,.1f}" for v in values.values()))
    return table


def _check_table(report: DemoReport) -> Table:
    table = Table(title="Checks", title_justify="left")
    table.add_column("number")
    table.add_column("expected", justify="right")
    table.add_column("found", justify="right")
    table.add_column("")
    for check in report.checks:
        mark = "[green]ok[/green]" if check.passed else "[red]WRONG[/red]"
        table.add_row(check.name, f"{check.expected:,}", f"{check.found:,}", mark)
    return table
