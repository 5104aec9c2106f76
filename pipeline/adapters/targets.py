"""What a mapping may fill: the fields of the two events, read off their types."""

from functools import cache
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.adapters.values import MONEY_CONVERTERS
from pipeline.events import (
    INVOICE_GENERATED,
    ORDER_PROCESSED,
    Attributes,
    Customer,
    Document,
    InvoiceGenerated,
    Line,
    OrderProcessed,
)

_ENVELOPE: Final = "envelope"
_SECTIONS: Final[dict[str, dict[str, type[msgspec.Struct]]]] = {
    ORDER_PROCESSED: {"data": OrderProcessed, "customer": Customer, "lines": Line},
    INVOICE_GENERATED: {"data": InvoiceGenerated, "document": Document},
}
_CONVERTERS: Final = {
    "currency": ("currency",),
    "total": MONEY_CONVERTERS,
    "unit_price": MONEY_CONVERTERS,
    "processed_at": ("time",),
    "issued_at": ("time",),
    "time": ("time",),
    "quantity": ("quantity",),
    "country": ("country",),
    "locale": ("locale", "text"),
    "url": ("url",),
    "order_id": ("id",),
    "invoice_id": ("id",),
}
_TEXTS: Final = ("text", "html_text", "id")


class Target(NamedTuple):
    """A field of an event: whether it must be there, its longest text, and what may convert to it."""

    required: bool
    chars_max: int | None
    converters: tuple[str, ...]


@cache
def targets_of(event: str, section: str) -> dict[str, Target]:
    """Return the fields of a section of an event; the envelope has `id`, `source` and `time`."""
    struct = Attributes if section == _ENVELOPE else _SECTIONS[event][section]
    names = ("id", "source", "time") if section == _ENVELOPE else struct.__struct_fields__
    info = msgspec.inspect.type_info(struct)
    assert isinstance(info, msgspec.inspect.StructType)
    return {
        field.name: Target(field.required, _chars_max(field.type), _CONVERTERS.get(field.name, _TEXTS))
        for field in info.fields
        if field.name in names and field.name not in _SECTIONS[event]
    }


def sections_of(event: str) -> tuple[str, ...]:
    """Return the tables that a rule for an event may have, beside its envelope."""
    return tuple(_SECTIONS[event])


def _chars_max(kind: Any) -> int | None:
    kinds = kind.types if isinstance(kind, msgspec.inspect.UnionType) else (kind,)
    return next((k.max_length for k in kinds if isinstance(k, msgspec.inspect.StrType)), None)
