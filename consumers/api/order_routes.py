"""Orders, invoices and customers: one by its id, never stale unless that is asked for."""

import asyncio
from typing import Annotated, Final

from litestar import get
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath, FromQuery, QueryParameter

from consumers.api.access import caller_of
from consumers.api.answers import (
    CustomerFound,
    CustomerInvoices,
    InvoicesFound,
    OrderFound,
    Timeline,
    customer_found,
    invoices_found,
    order_found,
    seen_by,
    timeline_of,
)
from consumers.api.callers import Access
from consumers.api.routes import named, needs, no_such
from consumers.effects import story_of
from consumers.web.requests import AnyRequest, Refused
from pipeline.reading.consistency import Consistency, Mode, Token
from pipeline.reading.order_reader import OrderReader
from pipeline.reading.views import Invoice
from pipeline.storage.cluster import Cluster

_BAD_REQUEST: Final = 400
_TOKENS_MAX: Final = 20
_TOKEN_CHARS_MAX: Final = 1000
_NO_TOKEN: Final = "token: is none that was given out"  # noqa: S105  # says what is wrong
_ORDERS_AT_ONCE: Final = 4

Tokens = Annotated[
    list[str] | None,
    QueryParameter(max_items=_TOKENS_MAX, description="From earlier answers: this one shows no less."),
]
Limit = Annotated[int, QueryParameter(ge=1, le=100, description="How many orders at most.")]
FewOrders = Annotated[int, QueryParameter(ge=1, le=20, description="How many orders are looked at.")]
OrderId = Annotated[str | None, QueryParameter(max_length=128, description="Its order: one shard is asked.")]


def order_routes(reader: OrderReader, cluster: Cluster) -> list[HTTPRouteHandler]:
    """Return the routes."""

    @get("/v1/orders/{order_id:str}", **needs(Access.READ, 404))
    async def order(
        request: AnyRequest,
        order_id: FromPath[str],
        consistency: FromQuery[Consistency] = Consistency.LATEST,
        mode: FromQuery[Mode | None] = None,
        token: Tokens = None,
    ) -> OrderFound:
        """Return an order, its invoices and its messages."""
        after, how = _session(token, consistency)
        name = named(order_id, "order")
        answer = await reader.order(name, mode=mode, consistency=how, after=after)
        if answer.value.is_empty:
            raise no_such("order")
        return order_found(answer, caller_of(request))

    @get("/v1/orders/{order_id:str}/timeline", **needs(Access.READ, 404))
    async def timeline(request: AnyRequest, order_id: FromPath[str]) -> Timeline:
        """Tell what happened to an order's messages, in order of time. Asks its shard's primary."""
        story = await story_of(cluster, named(order_id, "order"))
        if story.order is None and not story.invoices:
            raise no_such("order")
        return timeline_of(story, caller_of(request))

    return [order, timeline, *_invoice_routes(reader), *_customer_routes(reader)]


def _invoice_routes(reader: OrderReader) -> list[HTTPRouteHandler]:
    @get("/v1/invoices/{invoice_id:str}", **needs(Access.READ, 404))
    async def invoices(  # noqa: PLR0917  # each is a parameter of the query
        request: AnyRequest,
        invoice_id: FromPath[str],
        order_id: OrderId = None,
        consistency: FromQuery[Consistency] = Consistency.LATEST,
        mode: FromQuery[Mode | None] = None,
        token: Tokens = None,
    ) -> InvoicesFound:
        """Return the invoices of an id, each of another order. Without the order all shards are asked."""
        after, how = _session(token, consistency)
        if order_id is not None and (not order_id or "\0" in order_id):
            raise no_such("invoice")
        name = named(invoice_id, "invoice")
        answer = await reader.invoice(name, order_id, mode=mode, consistency=how, after=after)
        if not answer.value:
            raise no_such("invoice")
        return invoices_found(answer, caller_of(request))

    return [invoices]


def _customer_routes(reader: OrderReader) -> list[HTTPRouteHandler]:
    @get("/v1/customers/{customer_id:str}", **needs(Access.READ, 404))
    async def customer(  # noqa: PLR0917  # as above
        request: AnyRequest,
        customer_id: FromPath[str],
        limit: Limit = 20,
        consistency: FromQuery[Consistency] = Consistency.LATEST,
        mode: FromQuery[Mode | None] = None,
        token: Tokens = None,
    ) -> CustomerFound:
        """Return a person and its orders, the latest first. All shards are asked."""
        after, how = _session(token, consistency)
        name = named(customer_id, "customer")
        answer = await reader.customer(name, limit, mode=mode, consistency=how, after=after)
        if answer.value.is_empty:
            raise no_such("customer")
        return customer_found(answer, caller_of(request))

    @get("/v1/customers/{customer_id:str}/invoices", **needs(Access.READ, 404))
    async def customer_invoices(
        request: AnyRequest, customer_id: FromPath[str], orders: FewOrders = 10
    ) -> CustomerInvoices:
        """Return the invoices of a customer's latest orders. All shards are asked, then the orders' own."""
        name = named(customer_id, "customer")
        view = (await reader.customer(name, orders)).value
        if view.is_empty:
            raise no_such("customer")
        turns = asyncio.Semaphore(_ORDERS_AT_ONCE)

        async def read(order_id: str) -> list[Invoice]:
            async with turns:
                return (await reader.order(order_id)).value.invoices

        found = await asyncio.gather(*(read(line.order_id) for line in view.orders))
        invoices = [invoice for part in found for invoice in part]
        return CustomerInvoices(
            customer_id=name, invoices=seen_by(caller_of(request), invoices), more=view.more
        )

    return [customer, customer_invoices]


def _session(tokens: list[str] | None, consistency: Consistency) -> tuple[list[Token], Consistency]:
    """Return what a read must show. Raises Refused for tokens that were never given out."""
    after = [_token(text) for text in tokens or []]
    if after and consistency is Consistency.LATEST:
        return after, Consistency.SESSION
    if consistency is Consistency.SESSION and not after:
        raise Refused(_BAD_REQUEST, "consistency session needs a token of an earlier answer")
    return after, consistency


def _token(text: str) -> Token:
    try:
        token = Token.parse(text[:_TOKEN_CHARS_MAX])
    except ValueError:
        raise Refused(_BAD_REQUEST, _NO_TOKEN) from None
    in_range = 0 <= token.timeline < 2**31 and 0 <= token.lsn < 2**63
    if not in_range or any(not 0 <= xid < 2**32 for xid in token.seen):
        raise Refused(_BAD_REQUEST, _NO_TOKEN)
    return token
