"""The benchmarks as commands: `python -m loadtest NAME`, behind `make bench-NAME`."""

import asyncio
from pathlib import Path
from typing import Annotated

import msgspec
import typer
import uvloop
from rich.console import Console

from consumers.stack_commands import say
from consumers.stack_settings import write_stack_settings
from loadtest.intake_bench import BATCH, FOLDER, Flow, IntakeBench
from loadtest.intake_report import IntakeReport, machine, now_text, print_report, write_page
from loadtest.notifications_command import notifications
from loadtest.peer import peer_python
from loadtest.reads_bench import SLOW_S, SLOW_SHARE, Reading, ReadsBench, Tally
from loadtest.reads_report import ReadsReport, print_reads
from loadtest.reshard_bench import NEW, ReshardBench, ReshardReport, print_reshard
from loadtest.retention_bench import measure_retention, print_retention
from loadtest.ring_bench import measure_rings, print_rings
from loadtest.writer_bench import measure_writer, print_writer
from pipeline.reading.consistency import Consistency, Mode
from pipeline.settings import load_settings
from stack.launcher import StackConfig, down, reset, up
from stack.state import ShardConfig
from stack.status import StackStatus

CACHE = Path("var/cache")
DATA_DIR = FOLDER / "stack"
_SHARDS = tuple(ShardConfig(name=f"shard{number}") for number in range(3))

app = typer.Typer(help="Benchmarks. Each starts a stack of its own.", no_args_is_help=True)
app.command()(notifications)


@app.command()
def intake(
    events: Annotated[int, typer.Option(min=1000, help="Single events, and events in batches.")] = 300_000,
    backlog: Annotated[int, typer.Option(min=1000, help="Events to drain.")] = 1_000_000,
    peer_events: Annotated[int, typer.Option(min=100, help="Events for the peer program.")] = 10_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of open loop.")] = 20.0,
) -> None:
    """Measure intake; write var/bench/intake.json and intake.html."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    python = peer_python(CACHE)
    try:
        stack = up(StackConfig(data_dir=DATA_DIR), say)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_intake(stack, python, events, backlog, peer_events, seconds))
    finally:
        down(DATA_DIR, say)
        reset(DATA_DIR, say)
    _write("intake.json", report)
    write_page(report, FOLDER / "intake.html")
    print_report(report, Console())
    typer.echo(f"{FOLDER / 'intake.json'} and {FOLDER / 'intake.html'} written")


@app.command()
def writer() -> None:
    """Measure the intake transaction alone, by batch size; write var/bench/writer.json."""
    try:
        stack = up(StackConfig(data_dir=DATA_DIR), say)
        settings = load_settings(write_stack_settings(stack, DATA_DIR), {})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(measure_writer(stack, settings))
    finally:
        down(DATA_DIR, say)
        reset(DATA_DIR, say)
    _write("writer.json", report)
    print_writer(report, Console())


@app.command()
def ring() -> None:
    """Measure building, looking up and planning with the ring; write var/bench/ring.json."""
    report = measure_rings()
    _write("ring.json", report)
    print_rings(report, Console())


@app.command()
def retention(
    orders_per_day: Annotated[int, typer.Option(min=100, help="Of sixty days.")] = 5000,
) -> None:
    """Let sixty days go by on two shards, one with retention; write var/bench/retention.json."""
    try:
        stack = up(StackConfig(data_dir=DATA_DIR), say)
        settings = load_settings(write_stack_settings(stack, DATA_DIR), {})
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(measure_retention(settings, orders_per_day))
    finally:
        down(DATA_DIR, say)
        reset(DATA_DIR, say)
    _write("retention.json", report)
    print_retention(report, Console())


@app.command()
def reads(
    orders: Annotated[int, typer.Option(min=1000, help="Rows to read from.")] = 50_000,
    rate: Annotated[float, typer.Option(min=10, help="Reads per second.")] = 150.0,
    seconds: Annotated[float, typer.Option(min=1, help="For each mode and slow server.")] = 15.0,
) -> None:
    """Measure reads in each mode with one slow server; write var/bench/reads.json."""
    try:
        stack = up(StackConfig(data_dir=DATA_DIR), say)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            report = runner.run(_reads(stack, orders, rate, seconds))
    finally:
        down(DATA_DIR, say)
        reset(DATA_DIR, say)
    _write("reads.json", report)
    print_reads(report, Console())
    typer.echo(f"{FOLDER / 'reads.json'} written")


@app.command()
def reshard(
    rate: Annotated[float, typer.Option(min=10, help="Orders per second, all the time.")] = 2000.0,
    orders: Annotated[int, typer.Option(min=0, help="Orders there are at the beginning.")] = 100_000,
    calm: Annotated[float, typer.Option(min=2, help="Seconds measured before and after each change.")] = 10.0,
) -> None:
    """Add a shard and remove it again under load; write var/bench/reshard.json."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    try:
        stack = up(StackConfig(data_dir=DATA_DIR, shards=_SHARDS), say)
        three = write_stack_settings(stack, DATA_DIR)
        first = msgspec.structs.replace(stack, shards=[s for s in stack.shards if s.name != NEW])
        folder = DATA_DIR / "two"
        folder.mkdir(exist_ok=True)
        bench = ReshardBench(write_stack_settings(first, folder), three)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            add, remove = runner.run(bench.measure(rate, orders, calm))
    finally:
        down(DATA_DIR, say)
        reset(DATA_DIR, say)
    report = ReshardReport(
        at=now_text(),
        machine=machine(),
        command=f"python -m loadtest reshard --rate {rate:g} --orders {orders} --calm {calm:g}",
        events_per_s=rate,
        orders_before=orders,
        add=add,
        remove=remove,
    )
    _write("reshard.json", report)
    print_reshard(report, Console())
    typer.echo(f"{FOLDER / 'reshard.json'} written")


def _write(name: str, report: msgspec.Struct) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    (FOLDER / name).write_bytes(msgspec.json.format(msgspec.json.encode(report)) + b"\n")


async def _intake(  # noqa: PLR0917  # the sizes of the scenarios
    stack: StackStatus, python: Path, events: int, backlog: int, peer_events: int, seconds: float
) -> IntakeReport:
    settings_file = write_stack_settings(stack, DATA_DIR)
    async with IntakeBench(stack, load_settings(settings_file, {}), settings_file).opened() as bench:
        say(f"single events: {events:,}")
        single = _shown(await bench.together(events))
        say(f"batches of {BATCH}: {events:,} events")
        batch = _shown(await bench.together(events, BATCH))
        say(f"the peer program: {peer_events:,} events")
        peer = _shown(await bench.peer(python, peer_events))
        rate = single.events_per_s / 2
        say(f"open loop: {rate:,.0f} events/s for {seconds:g} s")
        open_loop = await bench.open_loop(rate, seconds)
        say(f"drain: {backlog:,} events")
        drain = _shown(await bench.drain(backlog))
    return IntakeReport(
        at=now_text(),
        machine=machine(),
        command=f"python -m loadtest intake --events {events} --backlog {backlog}",
        single=single,
        batch50=batch,
        drain=drain,
        peer=peer,
        open_loop=open_loop,
        ratio_to_peer=round(single.events_per_s / peer.events_per_s, 1),
    )


def _shown(flow: Flow) -> Flow:
    say(f"  {flow.events_per_s:,} events/s, {flow.cpu_us.total:g} µs of CPU each")
    return flow


async def _reads(stack: StackStatus, orders: int, rate: float, seconds: float) -> ReadsReport:
    settings = load_settings(write_stack_settings(stack, DATA_DIR), {})
    tallies: dict[str, dict[str, Tally]] = {"replica": {}, "primary": {}}
    async with ReadsBench(settings, orders).opened() as bench:
        for mode in Mode:
            for slow, found in tallies.items():
                say(f"{mode}: {rate:g} reads/s for {seconds:g} s, the {slow} of one shard is slow")
                found[mode] = await bench.run(Reading(mode=mode, rate=rate), slow, seconds)
        say("the replica, unchecked")
        unchecked = await bench.run(
            Reading(mode=Mode.REPLICA, rate=rate, consistencies=(Consistency.ANY,)), "replica", seconds
        )
    by_mode = {mode: Tally.of(found[mode] for found in tallies.values()).record() for mode in Mode}
    return ReadsReport(
        at=now_text(),
        machine=machine(),
        command=f"python -m loadtest reads --orders {orders} --rate {rate:g} --seconds {seconds:g}",
        slow=f"{SLOW_SHARE:.0%} of the answers of one of four servers wait {SLOW_S * 1e3:g} ms",
        reads_per_s=rate,
        **by_mode,
        slow_replica={mode: tally.record() for mode, tally in tallies["replica"].items()},
        slow_primary={mode: tally.record() for mode, tally in tallies["primary"].items()},
        unchecked=unchecked.record(),
    )
