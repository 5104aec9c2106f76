"""A plan for people: tables."""

from rich.console import Console
from rich.table import Table

from loadtest.planning.assumptions import Assumptions
from loadtest.planning.costs import CostVector
from loadtest.planning.layout import Layout
from loadtest.planning.plan import Plan
from loadtest.planning.reasons import lines_of
from loadtest.planning.reference_sizing import SizingRow
from loadtest.planning.sizing import Sizing


def print_plan(plan: Plan, costs: CostVector, given: Assumptions, console: Console) -> None:
    """Print what the plan says, then what cannot be met."""
    demand = plan.demand
    console.print(
        f"{demand.orders_per_s:,.0f} orders/s, {demand.invoices_per_s:,.0f} invoices/s, "
        f"{demand.sms_per_s:,.0f} SMS/s, {demand.mails_per_s:,.0f} mails/s; "
        f"{demand.events_per_message} event{'s' * (demand.events_per_message > 1)} in a message"
    )
    if plan.sizing is not None:
        _print_lines(plan, costs, given, console)
        _print_cores(plan.sizing, given, console)
        _print_money(plan, console)
    if plan.estimates:
        console.print(f"Estimated, not measured: {', '.join(plan.estimates)}", style="dim")


def _print_lines(plan: Plan, costs: CostVector, given: Assumptions, console: Console) -> None:
    where = "side by side" if plan.layout is Layout.SHARED else "each part on machines of its own"
    table = Table("", "", "why", title=where, title_justify="left")
    table.columns[1].justify = "right"
    for line in lines_of(plan, costs, given):
        table.add_row(*line)
    console.print(table)


def _print_cores(sizing: Sizing, given: Assumptions, console: Console) -> None:
    total = sum(sizing.cores.values())
    table = Table("part", "cores busy", "share", "machines, if by itself", title_justify="left", title="CPU")
    for column in table.columns[1:]:
        column.justify = "right"
    room = given.machine.cores * given.utilisation.planned_share
    for part, cores in sizing.cores.items():
        table.add_row(part, f"{cores:,.2f}", f"{cores / total:.0%}", f"{cores / room:,.1f}")
    console.print(table)


def _print_money(plan: Plan, console: Console) -> None:
    money = plan.money
    assert money is not None
    console.print(
        f"by the prices given ({money.currency}): machines {money.machines_hour:,.2f} an hour, "
        f"{money.machines_month:,.0f} a month; sender numbers {money.senders_month:,.0f} a month; "
        f"an hour at the peak: SMS {money.sms_hour:,.0f}, mails {money.mails_hour:,.0f}"
    )


def print_reference(rows: list[SizingRow], console: Console) -> None:
    """Print the sizing the design starts from, beside the measured one."""
    for reading in dict.fromkeys(row.reading for row in rows):
        table = Table("", "µs/order", "orders/s each", "by CPU", "by data", "machines")
        table.title, table.title_justify = f"{reading}, 30 TB, 4 cores and 72 GB each", "left"
        for column in table.columns[1:]:
            column.justify = "right"
        for row in rows:
            if row.reading == reading:
                table.add_row(row.cost, *_cells(row))
        console.print(table)


def _cells(row: SizingRow) -> list[str]:
    figures = (row.cpu_us, row.orders_per_s_of_machine, row.machines_by_cpu, row.machines_by_data)
    return [f"{figure:,.0f}" for figure in (*figures, row.machines)]
