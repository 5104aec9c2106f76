"""Finds orders, invoices and customers: the shard that owns them, and an answer that is never stale."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

import msgspec
import structlog

from pipeline.errors import PostorderError, ShardMapError
from pipeline.reading.consistency import Consistency, Mode, Token, token_of
from pipeline.reading.pair import PairReader, Query, Reply
from pipeline.reading.views import (
    Answer,
    CustomerPart,
    CustomerView,
    Invoice,
    InvoicesPart,
    OrderView,
    SlotSums,
)
from pipeline.settings import Settings, ShardSettings
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT, slot_of

log = structlog.get_logger(__name__)

_TRIES = 4
_PAUSE_S = 0.05  # between tries: a slot changes hands in less
_ALL_SLOTS = SlotSums(SLOT_COUNT, sum(range(SLOT_COUNT)), sum(slot * slot for slot in range(SLOT_COUNT)))

Part = TypeVar("Part", InvoicesPart, CustomerPart)


class OrderReader:
    """Reads of all shards. Which shard owns a slot is checked in each answer, by the shard itself.

    `refresh` returns the shard map in force; it is called when a shard says that it does not own a slot.
    Without one, the shards themselves are asked. `find_shard` returns the settings of a shard that was added
    since, or None.
    """

    def __init__(
        self,
        settings: Settings,
        shard_map: ShardMap | None = None,
        refresh: Callable[[], Awaitable[ShardMap]] | None = None,
        find_shard: Callable[[str], ShardSettings | None] = lambda _name: None,
    ) -> None:
        self._settings = settings
        self._find_shard = find_shard
        self.pairs = {shard.name: PairReader(shard, settings) for shard in settings.shards}
        self._mode = Mode(settings.reads.mode)
        self._map = shard_map or ShardMap.first({shard.name: shard.weight for shard in settings.shards})
        self._refresh = refresh or self._map_of_shards

    def __repr__(self) -> str:
        return f"OrderReader({', '.join(map(repr, self.pairs.values()))})"

    async def order(
        self,
        order_id: str,
        *,
        mode: Mode | None = None,
        consistency: Consistency = Consistency.LATEST,
        after: Iterable[Token] = (),
    ) -> Answer[OrderView]:
        """Return an order with its invoices and messages.

        `after`: tokens of what was written or read before; they count with consistency `session`, and one of
        another shard makes it `latest`. Raises StorageUnavailableError, StorageTimeoutError, or ShardMapError
        when no shard says it owns the order's slot.
        """
        tokens = list(after)
        query = Query("order", (slot_of(order_id), order_id))
        reply = await self._from_owner(slot_of(order_id), query, mode or self._mode, consistency, tokens)
        view = msgspec.json.decode(reply.data, type=OrderView)
        return Answer(value=view, served=(reply.served,), tokens=(reply.token,))

    async def invoice(
        self,
        invoice_id: str,
        order_id: str | None = None,
        *,
        mode: Mode | None = None,
        consistency: Consistency = Consistency.LATEST,
        after: Iterable[Token] = (),
    ) -> Answer[list[Invoice]]:
        """Return the invoices of this id, each of another order. Without the order, all shards are asked."""
        if order_id is not None:
            found = await self.order(order_id, mode=mode, consistency=consistency, after=after)
            invoices = [invoice for invoice in found.value.invoices if invoice.invoice_id == invoice_id]
            return Answer(value=invoices, served=found.served, tokens=found.tokens)
        query = Query("invoice", (invoice_id,))
        parts, replies = await self._from_all(query, InvoicesPart, mode, consistency, list(after))
        invoices = [invoice for part in parts for invoice in part.invoices]
        return _answer(sorted(invoices, key=lambda invoice: invoice.order_id), replies)

    async def customer(
        self,
        customer_id: str,
        limit: int = 100,
        *,
        mode: Mode | None = None,
        consistency: Consistency = Consistency.LATEST,
        after: Iterable[Token] = (),
    ) -> Answer[CustomerView]:
        """Return a person and its orders, the latest first, `limit` at most. All shards are asked."""
        query = Query("customer", (customer_id, limit + 1, slot_of(customer_id)))
        parts, replies = await self._from_all(query, CustomerPart, mode, consistency, list(after))
        orders = [order for part in parts for order in part.orders]
        orders.sort(key=lambda order: (order.processed_at, order.order_id), reverse=True)
        known = next((part for part in parts if part.person is not None), None)
        view = CustomerView(
            customer_id=customer_id,
            person=known.person if known else None,
            updated_at=known.updated_at if known else None,
            opted_out=known.opted_out if known else [],
            orders=orders[:limit],
            more=len(orders) > limit,
        )
        return _answer(view, replies)

    async def token(self, order_id: str) -> Token:
        """Return a token for all that was committed so far on the order's shard: for reads that must see it.

        Taken after a commit was acknowledged, it covers that commit. The shard is the one of the map at hand.
        """
        return await self._pair_of(slot_of(order_id)).token()

    async def close(self) -> None:
        """Close every pool; answers under way that nobody waits for are cut off at their limit."""
        await asyncio.gather(*(pair.close() for pair in self.pairs.values()))

    # --- finding the owner ----------------------------------------------------------------------------

    async def _from_owner(
        self, slot: int, query: Query, mode: Mode, consistency: Consistency, tokens: list[Token]
    ) -> Reply:
        for number in range(_TRIES):
            if number:
                await asyncio.sleep(_PAUSE_S * (number - 1))
                self._map = await self._refresh()
            pair = self._pair_of(slot)
            token = token_of(pair.name, tokens)
            reply = await pair.read(query, mode=mode, consistency=consistency, token=token)
            if reply.owned:
                return reply
        raise ShardMapError(f"slot {slot}: {pair.name} does not own it, nor does any other shard say so")

    def _pair_of(self, slot: int) -> PairReader:
        name = self._map.owners[slot]
        if name not in self.pairs:
            added = self._find_shard(name)
            if added is None:
                raise ShardMapError(
                    f"slot {slot} is on {name}, which the settings do not name: add it to [[shards]]"
                )
            self.pairs[name] = PairReader(added, self._settings)
        return self.pairs[name]

    async def _from_all(
        self,
        query: Query,
        part: type[Part],
        mode: Mode | None,
        consistency: Consistency,
        tokens: list[Token],
    ) -> tuple[list[Part], list[Reply]]:
        """Ask every shard, until their answers together cover each slot once."""
        for number in range(_TRIES):
            await asyncio.sleep(_PAUSE_S * number)
            replies = await asyncio.gather(
                *(
                    pair.read(
                        query,
                        mode=mode or self._mode,
                        consistency=consistency,
                        token=token_of(pair.name, tokens),
                    )
                    for pair in self.pairs.values()
                )
            )
            parts = [msgspec.json.decode(reply.data, type=part) for reply in replies]
            if _covered(parts) == _ALL_SLOTS:
                return parts, list(replies)
        owned = _covered(parts).count
        raise ShardMapError(
            f"the shards of the settings own {owned} slots together, not {SLOT_COUNT}: "
            "one is missing in the settings, or slots move all the time"
        )

    async def _map_of_shards(self) -> ShardMap:
        """Ask every shard for its slots; one that cannot be asked keeps what the map at hand gives it."""
        names = list(self.pairs)
        replies = await asyncio.gather(
            *(
                self.pairs[name].read(Query("slots"), mode=self._mode, consistency=Consistency.LATEST)
                for name in names
            ),
            return_exceptions=True,
        )
        owners = list(self._map.owners)
        epochs = [0] * SLOT_COUNT
        for name, reply in zip(names, replies, strict=True):
            if isinstance(reply, BaseException):
                if not isinstance(reply, PostorderError):
                    raise reply
                log.warning("reads.slots_unknown", shard=name, error=str(reply))
                continue
            for slot, epoch in msgspec.json.decode(reply.data, type=list[tuple[int, int]]):
                if epoch > epochs[slot]:
                    owners[slot], epochs[slot] = name, epoch
        return ShardMap(epoch=max(self._map.epoch, *epochs), owners=tuple(owners))


def _covered(parts: Iterable[InvoicesPart | CustomerPart]) -> SlotSums:
    sums = [part.slots for part in parts]
    return SlotSums(sum(s.count for s in sums), sum(s.sum for s in sums), sum(s.squares for s in sums))


T = TypeVar("T")


def _answer(value: T, replies: list[Reply]) -> Answer[T]:
    return Answer(
        value=value,
        served=tuple(reply.served for reply in replies),
        tokens=tuple(reply.token for reply in replies),
    )
