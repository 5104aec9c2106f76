"""`python -m loadtest notifications`: what sending costs, how soon a message is out, how long claims take."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console

from consumers.stack_commands import say
from consumers.stack_settings import write_stack_settings
from loadtest.claims_bench import Claims, ClaimsBench
from loadtest.intake_bench import FOLDER
from loadtest.intake_report import machine, now_text
from loadtest.notifications_bench import NotificationsBench
from loadtest.notifications_report import NotificationsReport, print_notifications
from loadtest.sender_profile import Profile
from loadtest.sending_figures import Drain, SendingLoop
from pipeline.settings import load_settings
from pipeline.storage.outbox import Channel
from stack.launcher import StackConfig, down, reset, up

DATA_DIR = FOLDER / "stack"


def notifications(  # noqa: PLR0917  # the sizes of the scenarios
    messages: Annotated[int, typer.Option(min=1000, help="SMS, and as many mails, to drain.")] = 60_000,
    rate: Annotated[
        float, typer.Option(min=0, help="Orders per second in open loop; 0: half of what SMS and mail allow.")
    ] = 0,
    seconds: Annotated[float, typer.Option(min=1, help="Of open loop.")] = 30.0,
    finished: Annotated[int, typer.Option(min=0, help="Finished messages beside the claims.")] = 5_000_000,
    snapshot_minutes: Annotated[
        float, typer.Option(min=0, help="How long a snapshot is held open; 0: no claims are measured.")
    ] = 15.0,
    claims_per_s: Annotated[float, typer.Option(min=1, help="New messages per second meanwhile.")] = 400.0,
    py_spy: Annotated[Path | None, typer.Option(help="A py-spy to profile the sender with.")] = None,
) -> None:
    """Measure sending; write var/bench/notifications.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        stack = up(StackConfig(data_dir=DATA_DIR), say)
        settings_file = write_stack_settings(stack, DATA_DIR)
        bench = NotificationsBench(stack, load_settings(settings_file, {}), settings_file)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            sms, email, loop, claim, profiles = runner.run(
                _notifications(
                    bench, messages, rate, seconds, finished, snapshot_minutes, claims_per_s, py_spy
                )
            )
    finally:
        down(DATA_DIR, say)
        reset(DATA_DIR, say)
    report = NotificationsReport(
        at=now_text(),
        machine=machine(),
        command=f"python -m loadtest notifications --messages {messages} --rate {rate:g} "
        f"--seconds {seconds:g} --finished {finished} --snapshot-minutes {snapshot_minutes:g} "
        f"--claims-per-s {claims_per_s:g}",
        sms=sms,
        email=email,
        latency=loop,
        claim=claim,
        profiles=profiles,
    )
    path = FOLDER / "notifications.json"
    path.write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")
    print_notifications(report, Console())
    typer.echo(f"{path} written")


async def _notifications(  # noqa: PLR0917  # the sizes of the scenarios
    bench: NotificationsBench,
    messages: int,
    rate: float,
    seconds: float,
    finished: int,
    minutes: float,
    claims_per_s: float,
    py_spy: Path | None,
) -> tuple[Drain, Drain, SendingLoop, Claims | None, dict[str, Profile]]:
    async with bench.opened():
        say(f"{messages:,} SMS")
        sms = await bench.drain(Channel.SMS, messages)
        say(f"  {sms.per_s:,}/s, {sms.per_s_per_core:,}/s per core; {messages:,} mails")
        email = await bench.drain(Channel.EMAIL, messages)
        say(f"  {email.per_s:,}/s, {email.per_s_per_core:,}/s per core")
        # An order is an SMS and a mail: the sender alone would take 1 / sms + 1 / mail of a second for it.
        rate = rate or 0.5 / (1 / sms.per_s + 1 / email.per_s)
        say(f"open loop: {rate:,.0f} orders/s for {seconds:g} s")
        loop = await bench.open_loop(rate, seconds)
        say(f"  p50 {loop.p50_ms} ms, p99 {loop.p99_ms} ms")
        profiles = {
            channel.value: await bench.profile(channel, messages, py_spy) for channel in Channel if py_spy
        }
        claims = None
        if minutes:
            say(f"claims beside {finished:,} finished messages, a snapshot open for {minutes:g} min")
            claiming = ClaimsBench(bench.cluster)
            await claiming.fill(finished, say)
            claims = await claiming.run(finished, minutes, claims_per_s)
    return sms, email, loop, claims, profiles
