"""`postorder plan`: how many machines an amount of orders needs, before they come."""

from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console

from loadtest.planning.assumptions import SHIPPED as ASSUMPTIONS
from loadtest.planning.assumptions import Assumptions, load_assumptions
from loadtest.planning.costs import SHIPPED as COSTS
from loadtest.planning.costs import CostVector, load_costs
from loadtest.planning.demand import Demand
from loadtest.planning.layout import Layout
from loadtest.planning.plan import Plan, make_plan
from loadtest.planning.plan_report import print_plan, print_reference
from loadtest.planning.quantities import bytes_of, rate_of, seconds_of, share_of
from loadtest.planning.reference_sizing import SizingRow, reference_rows
from loadtest.planning.sending import sender_rate
from pipeline.errors import SettingsError

FOLDER = Path("var/plan")


def plan(  # noqa: PLR0917  # the options of a command
    orders_per_s: Annotated[str, typer.Option(help="At the peak: 500/s, 10M/min.")] = "",
    data: Annotated[str, typer.Option(help="On all primaries, with indexes: 30TB. Empty: not planned.")] = "",
    p99: Annotated[str, typer.Option(help="From publish to committed: 250ms, 1s.")] = "1s",
    sms_share: Annotated[str, typer.Option(help="Of orders that owe an SMS: 0.3 or 30%.")] = "1",
    mail_share: Annotated[str, typer.Option(help="Of orders that owe a mail.")] = "1",
    invoice_share: Annotated[str, typer.Option(help="Of orders that have an invoice.")] = "1",
    late_share: Annotated[str, typer.Option(help="Of invoices that come after the grace window.")] = "0.1",
    events_per_message: Annotated[int, typer.Option(help="Events that upstream puts in a message.")] = 1,
    segments: Annotated[float, typer.Option(help="Of an SMS, on average.")] = 1.0,
    sender: Annotated[
        str, typer.Option(help="Kind of number, or its segments per second. Default: the assumptions'.")
    ] = "",
    backlog: Annotated[str, typer.Option(help="How long a backlog gathers: 30min.")] = "30min",
    layout: Annotated[Layout, typer.Option(help="Parts side by side, or on machines of their own.")] = (
        Layout.SHARED
    ),
    cores: Annotated[int, typer.Option(help="Of a machine. 0: the assumptions'.")] = 0,
    disk: Annotated[str, typer.Option(help="Of a machine: 200GB. Default: the assumptions'.")] = "",
    costs: Annotated[Path, typer.Option(help="The cost vector.")] = COSTS,
    assumptions: Annotated[Path, typer.Option(help="Machines, prices, providers.")] = ASSUMPTIONS,
    reference: Annotated[  # noqa: FBT002
        bool, typer.Option("--reference", help="The sizing the design starts from, beside the measured one.")
    ] = False,
    simulate: Annotated[  # noqa: FBT002
        bool,
        typer.Option("--simulate", help="Skew, a hot customer, a lost shard, a new one; writes var/plan."),
    ] = False,
    verify: Annotated[  # noqa: FBT002
        bool, typer.Option("--verify", help="Start a stack here, run at its predicted knee, show the error.")
    ] = False,
    data_dir: Annotated[Path, typer.Option(help="Of the stack that --verify starts.")] = FOLDER / "stack",
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object.")] = False,  # noqa: FBT002
) -> None:
    """Say how many machines an amount of orders needs, and why. Exit status 1: it cannot be met."""
    vector, given = load_costs(costs), _given(assumptions, cores, disk, sender)
    console = Console(soft_wrap=False)
    if reference:
        rows = reference_rows(vector, given)
        typer.echo(_json(rows)) if as_json else print_reference(rows, console)
        return
    if not orders_per_s and not verify:
        raise SettingsError(
            ["--orders-per-s: say how many, such as 500/s or 10M/min (or ask for --reference)"]
        )
    demand = Demand(
        orders_per_s=rate_of("--orders-per-s", orders_per_s or "1"),  # a rate is nothing to --verify
        data_bytes=bytes_of("--data", data) if data else 0.0,
        p99_s=seconds_of("--p99", p99),
        sms_share=share_of("--sms-share", sms_share),
        mail_share=share_of("--mail-share", mail_share),
        invoice_share=share_of("--invoice-share", invoice_share),
        late_share=share_of("--late-share", late_share),
        events_per_message=events_per_message,
        segments_per_sms=segments,
        backlog_s=seconds_of("--backlog", backlog),
    )
    if verify:
        raise typer.Exit(_verified(demand, vector, given, data_dir, console))
    made = make_plan(demand, vector, given, layout)
    if as_json:
        typer.echo(_json(made))
    else:
        print_plan(made, vector, given, console)
    if simulate:
        _simulated(made, vector, given, Console(stderr=as_json))
    for problem in made.problems:
        typer.echo(f"postorder: cannot be met: {problem}", err=True)
    raise typer.Exit(1 if made.problems else 0)


def _simulated(made: Plan, costs: CostVector, given: Assumptions, console: Console) -> None:
    from loadtest.planning.simulate_command import print_study, simulate_plan  # noqa: PLC0415  # as above

    print_study(simulate_plan(made, costs, given, FOLDER), FOLDER, console)


def _verified(
    demand: Demand,
    costs: CostVector,
    given: Assumptions,
    data_dir: Path,
    console: Console,
) -> int:
    """Run it and return the exit status: 1 when the prediction was too far off."""
    from loadtest.planning.verify_command import (  # noqa: PLC0415  # loads servers and plots
        print_verification,
        verify_here,
    )

    found = verify_here(demand, costs, given, FOLDER, data_dir)
    print_verification(found, console)
    return 0 if found.within else 1


def _given(path: Path, cores: int, disk: str, sender: str) -> Assumptions:
    """Return the assumptions with what the options override. Raises SettingsError."""
    given = load_assumptions(path)
    machine = given.machine
    if cores < 0:
        raise SettingsError([f"--cores: must be at least 1, not {cores}"])
    if cores:
        machine = msgspec.structs.replace(machine, cores=cores)
    if disk:
        machine = msgspec.structs.replace(machine, disk_gb=bytes_of("--disk", disk) / 1e9)
    sms = msgspec.structs.replace(given.sms, sender=sender) if sender else given.sms
    given = msgspec.structs.replace(given, machine=machine, sms=sms)
    sender_rate(given, given.sms.sender)
    return given


def _json(value: Plan | list[SizingRow]) -> str:
    return msgspec.json.format(msgspec.json.encode(value)).decode()
