"""Finds orders, invoices and customers: the shard that owns them, and an answer that is never stale."""

import asyncio
from collections.abc import Iterable
from typing import TypeVar

import msgspec

from pipeline.errors import ShardMapError
from pipeline.reading.consistency import Consistency, Mode, Token, token_of
from pipeline.reading.map_source import AskedMap, ClusterMap, MapSource
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
from pipeline.settings import Settings
from pipeline.sharding.slots import SLOT_COUNT, slot_of
from pipeline.storage.cluster import Cluster

_TRIES = 4
_PAUSE_S = 0.05  # between tries: a slot changes hands in less
_ALL_SLOTS = SlotSums(SLOT_COUNT, sum(range(SLOT_COUNT)), sum(slot * slot for slot in range(SLOT_COUNT)))

Part = TypeVar("Part", InvoicesPart, CustomerPart)


class OrderReader:
    """Reads of all shards. Which shard owns a slot is checked in each answer, by the shard itself.

    A process that runs for long gives its `cluster`: the reader goes by its map, and knows the shards that
    were added since. Without one, the shards of the settings are asked for what they own when one refuses.
    """

    def __init__(self, settings: Settings, cluster: Cluster | None = None) -> None:
        self._settings = settings
        self.pairs = {shard.name: PairReader(shard, settings) for shard in settings.shards}
        self._mode = Mode(settings.reads.mode)
        self._maps: MapSource = ClusterMap(cluster) if cluster else AskedMap(settings, self.pairs)

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
                await self._maps.refresh()
            pair = self._pair_of(slot)
            token = token_of(pair.name, tokens)
            reply = await pair.read(query, mode=mode, consistency=consistency, token=token)
            if reply.owned:
                return reply
        raise ShardMapError(f"slot {slot}: {pair.name} does not own it, nor does any other shard say so")

    def _pair_of(self, slot: int) -> PairReader:
        name = self._maps.shard_map.owners[slot]
        if name not in self.pairs:
            added = self._maps.settings_of(name)
            if added is None:
                raise ShardMapError(
                    f"slot {slot} is on {name}, which the settings do not name: add it to [[shards]]"
                )
            self.pairs[name] = PairReader(added, self._settings)
        return self.pairs[name]

    def _all_pairs(self) -> list[PairReader]:
        """Return all shards of the settings, and those that the map names beside them."""
        owners = self._maps.shard_map.owners
        for name in set(owners) - set(self.pairs):
            self._pair_of(owners.index(name))
        return list(self.pairs.values())

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
            if number:
                await asyncio.sleep(_PAUSE_S * number)
                await self._maps.refresh()
            replies = await asyncio.gather(
                *(
                    pair.read(
                        query,
                        mode=mode or self._mode,
                        consistency=consistency,
                        token=token_of(pair.name, tokens),
                    )
                    for pair in self._all_pairs()
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
