"""`postorder get order|invoice|customer`: find one, and see which server answered."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from consumers.command import ConfigOption, run_async, settings_from
from consumers.get_report import (
    customer_without_personal_data,
    order_without_personal_data,
    print_customer,
    print_invoices,
    print_order,
    served_line,
)
from consumers.tables import standard_output
from pipeline.errors import SettingsError
from pipeline.reading.consistency import Consistency, Mode, Token
from pipeline.reading.order_reader import OrderReader
from pipeline.reading.views import Answer, CustomerView, Invoice, OrderView

T = TypeVar("T")

get_app = typer.Typer(help="Find an order, an invoice or a customer.", no_args_is_help=True)

ConsistencyOption = Annotated[
    Consistency,
    typer.Option(
        help="latest: all that was acknowledged before. session: all that --token stands for. "
        "any: what a server has, however old."
    ),
]
ModeOption = Annotated[Mode | None, typer.Option(help="Whom to ask. Default: reads.mode of the settings.")]
TokenOption = Annotated[
    list[str] | None, typer.Option("--token", help="From an earlier answer; may be repeated. Means session.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="One JSON object.")]
PersonalOption = Annotated[
    bool, typer.Option("--personal", help="Show names, addresses and numbers in full.")
]


class Found(msgspec.Struct, frozen=True):
    """What `--json` prints."""

    found: Any
    served: Any
    tokens: list[str]
    ms: float


@get_app.command("order")
def order_command(  # noqa: PLR0917  # each is an option
    order_id: Annotated[str, typer.Argument(help="The order's id.")],
    consistency: ConsistencyOption = Consistency.LATEST,
    mode: ModeOption = None,
    tokens: TokenOption = None,
    personal: PersonalOption = False,  # noqa: FBT002  # typer's form of a flag
    as_json: JsonOption = False,  # noqa: FBT002  # as above
    config: ConfigOption = None,
) -> None:
    """Show an order, its invoices, its messages, and which server answered."""
    after, consistency = _session(tokens, consistency)

    async def find(reader: OrderReader) -> Answer[OrderView]:
        return await reader.order(order_id, mode=mode, consistency=consistency, after=after)

    answer, ms = run_async(_with_reader(config, find))
    _found_or_exit(not answer.value.is_empty, f"order {order_id}", answer)
    view = answer.value if personal else order_without_personal_data(answer.value)
    if as_json:
        _print_json(view, answer, ms)
    else:
        print_order(view, standard_output())
        _print_served(answer, ms, consistency)


@get_app.command("invoice")
def invoice_command(  # noqa: PLR0917  # each is an option
    invoice_id: Annotated[str, typer.Argument(help="The invoice's id.")],
    order_id: Annotated[
        str | None, typer.Option("--order", help="Its order's id: then one shard is asked.")
    ] = None,
    consistency: ConsistencyOption = Consistency.LATEST,
    mode: ModeOption = None,
    tokens: TokenOption = None,
    as_json: JsonOption = False,  # noqa: FBT002  # as above
    config: ConfigOption = None,
) -> None:
    """Show an invoice, not its document, and who answered. Without --order, all shards are asked."""
    after, consistency = _session(tokens, consistency)

    async def find(reader: OrderReader) -> Answer[list[Invoice]]:
        return await reader.invoice(invoice_id, order_id, mode=mode, consistency=consistency, after=after)

    answer, ms = run_async(_with_reader(config, find))
    _found_or_exit(bool(answer.value), f"invoice {invoice_id}", answer)
    if as_json:
        _print_json(answer.value, answer, ms)
    else:
        print_invoices(answer.value, standard_output())
        _print_served(answer, ms, consistency)


@get_app.command("customer")
def customer_command(  # noqa: PLR0917  # each is an option
    customer_id: Annotated[str, typer.Argument(help="The customer's id.")],
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="How many orders at most.")] = 20,
    consistency: ConsistencyOption = Consistency.LATEST,
    mode: ModeOption = None,
    tokens: TokenOption = None,
    personal: PersonalOption = False,  # noqa: FBT002  # as above
    as_json: JsonOption = False,  # noqa: FBT002  # as above
    config: ConfigOption = None,
) -> None:
    """Show a person, its orders, the latest first, and which servers answered. All shards are asked."""
    after, consistency = _session(tokens, consistency)

    async def find(reader: OrderReader) -> Answer[CustomerView]:
        return await reader.customer(customer_id, limit, mode=mode, consistency=consistency, after=after)

    answer, ms = run_async(_with_reader(config, find))
    _found_or_exit(not answer.value.is_empty, f"customer {customer_id}", answer)
    view = answer.value if personal else customer_without_personal_data(answer.value)
    if as_json:
        _print_json(view, answer, ms)
    else:
        print_customer(view, standard_output())
        if view.more:
            typer.echo(f"there are more than these {limit}: see --limit", err=True)
        _print_served(answer, ms, consistency)


def _session(tokens: list[str] | None, consistency: Consistency) -> tuple[list[Token], Consistency]:
    try:
        after = [Token.parse(text) for text in tokens or []]
    except ValueError as error:
        raise SettingsError([f"--token: {error}"]) from error
    if after and consistency is Consistency.LATEST:
        return after, Consistency.SESSION
    if consistency is Consistency.SESSION and not after:
        raise SettingsError(["--consistency session: needs a --token from an earlier answer"])
    return after, consistency


async def _with_reader(
    config: Path | None, find: Callable[[OrderReader], Awaitable[Answer[T]]]
) -> tuple[Answer[T], float]:
    """Return the answer and the milliseconds it took, opening connections included."""
    reader = OrderReader(settings_from(config))
    try:
        began = time.monotonic()
        answer = await find(reader)
        return answer, round((time.monotonic() - began) * 1e3, 1)
    finally:
        await reader.close()


def _found_or_exit(is_found: bool, what: str, answer: Answer[Any]) -> None:  # noqa: FBT001  # a condition
    if not is_found:
        by = ", ".join(f"{served.shard} {served.role}" for served in answer.served)
        typer.echo(f"postorder: no {what} (asked: {by})", err=True)
        raise typer.Exit(1)


def _print_json(found: Any, answer: Answer[Any], ms: float) -> None:
    shown = Found(found, answer.served, [str(token) for token in answer.tokens], ms)
    typer.echo(msgspec.json.format(msgspec.json.encode(shown)))


def _print_served(answer: Answer[Any], ms: float, consistency: Consistency) -> None:
    for served in answer.served:
        may_be_old = consistency is Consistency.ANY and served.role == "replica"
        typer.echo(served_line(served) + ("; may be old" if may_be_old else ""))
    tokens = " ".join(f"--token {token}" for token in answer.tokens)
    typer.echo(f"{ms:.1f} ms with connecting; to read on from here: {tokens}")
