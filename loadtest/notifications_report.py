"""The results of `make bench-notifications`: as JSON and as tables."""

import msgspec
from rich.console import Console
from rich.table import Table

from loadtest.claims_bench import Claims
from loadtest.sender_profile import Profile
from loadtest.sending_figures import Drain, SendingLoop

_PARTS = ("sender", "primaries", "replicas", "provider", "total")


class NotificationsReport(msgspec.Struct, frozen=True, kw_only=True):
    """Everything measured, in one run. `claim` is None when it was left out; `profiles`: by channel."""

    at: str
    machine: str
    command: str
    sms: Drain
    email: Drain
    latency: SendingLoop
    claim: Claims | None
    profiles: dict[str, Profile]

    def targets(self) -> list[tuple[str, str, str, bool]]:
        """Compare with what was aimed at: what, wanted, measured, met."""
        found = [
            _at_least("SMS per second and core", 2500, self.sms.per_s_per_core),
            _at_least("mails per second and core", 3500, self.email.per_s_per_core),
            _at_most("published to accepted, p99 ms", 250, self.latency.p99_ms),
        ]
        if self.claim is not None:
            rows, minutes = self.claim.finished_rows, self.claim.snapshot_minutes
            what = f"claim p99 ms, {rows / 1e6:g} M finished, snapshot of {minutes:g} min"
            found.append(_at_most(what, 20, self.claim.p99_ms))
        return found


def print_notifications(report: NotificationsReport, console: Console) -> None:
    """Print the figures as tables."""
    drains = {"SMS": report.sms, "e-mail": report.email}
    costs = Table("", "per s", "per s and core", *_PARTS, title="µs of CPU per message", title_justify="left")
    for name, drain in drains.items():
        parts = [f"{getattr(drain.cpu_us, part):.0f}" for part in _PARTS]
        costs.add_row(name, f"{drain.per_s:,.0f}", f"{drain.per_s_per_core:,.0f}", *parts)
    console.print(costs)
    busy = ", ".join(
        f"{name}: sender {drain.sender_share:.0%}, stand-in {drain.provider_share:.0%}"
        for name, drain in drains.items()
    )
    console.print(f"busy, of one core: {busy}. The total is without the stand-in.")
    for name, drain in drains.items():
        _print_statements(name, drain, console)
    loop = report.latency
    console.print(
        f"open loop, {loop.orders_per_s:,g} orders and {loop.messages_per_s:,g} messages per s: "
        f"p50 {loop.p50_ms} ms, p99 {loop.p99_ms} ms; {loop.busy_cores} cores busy"
    )
    for name, stage in loop.stages.items():
        console.print(f"  {name}: p50 {stage.p50_ms} ms, p99 {stage.p99_ms} ms")
    if report.claim is not None:
        _print_claims(report.claim, console)
    for channel, profile in report.profiles.items():
        _print_profile(channel, profile, console)
    targets = Table("target", "wanted", "measured", "")
    for what, wanted, measured, met in report.targets():
        targets.add_row(what, wanted, measured, "met" if met else "missed")
    console.print(targets)


def _print_statements(name: str, drain: Drain, console: Console) -> None:
    table = Table("µs per message", "messages per call", "rows", "mean ms", name, title_justify="left")
    for one in drain.statements:
        table.add_row(
            f"{one.us_per_message}",
            f"{one.messages_per_call}",
            f"{one.rows_per_call}",
            f"{one.mean_ms}",
            one.begins,
        )
    console.print(table)


def _print_claims(claims: Claims, console: Console) -> None:
    table = Table("minute", "claims", "p50 ms", "p99 ms", title="claims", title_justify="left")
    for one in claims.by_minute:
        table.add_row(f"{one.minute}", f"{one.claims:,}", f"{one.p50_ms}", f"{one.p99_ms}")
    console.print(table)
    console.print(
        f"statement {claims.statement_ms} ms and {claims.pages_per_claim:g} pages on average; "
        f"sweep p99 {claims.sweep.p99_ms} ms; {claims.messages:,} messages claimed and recorded"
    )


def _print_profile(channel: str, profile: Profile, console: Console) -> None:
    table = Table("own time", "", title=f"{channel}: where the sender's time goes", title_justify="left")
    for name, share in (profile.parts | profile.functions).items():
        table.add_row(f"{share:.1%}", name)
    console.print(table)


def _at_least(what: str, wanted: float, measured: float) -> tuple[str, str, str, bool]:
    return what, f"≥ {wanted:,g}", f"{measured:,g}", measured >= wanted


def _at_most(what: str, wanted: float, measured: float) -> tuple[str, str, str, bool]:
    return what, f"≤ {wanted:,g}", f"{measured:,g}", measured <= wanted
