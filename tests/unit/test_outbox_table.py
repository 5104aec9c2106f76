"""Which invoices a claim of mails takes along."""

from datetime import timedelta
from typing import Any, Self
from uuid import UUID

from claims import claim

from pipeline.storage.outbox import Channel, Kind
from pipeline.storage.outbox_table import Outbox
from pipeline.storage.statements import OUTBOX


class Connection:
    """Returns rows for a claim, and keeps what it was asked with. A transaction and a node besides."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self._rows = rows
        self.asked: dict[str, tuple[Any, ...]] = {}

    def connection(self) -> "Connection":
        return self

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        """Nothing to close."""

    def is_closed(self) -> bool:
        return True

    async def execute(self, statement: str, *arguments: Any) -> str:
        self.asked[statement] = arguments
        return "COMMIT"

    async def fetch(self, statement: str, *arguments: Any) -> list[dict[str, Any]]:
        self.asked[statement] = arguments
        return self._rows if statement == OUTBOX["claim"] else []


def row(number: int, *, is_expired: bool) -> dict[str, Any]:
    made = claim(effect_id=UUID(int=number), kind=Kind.ORDER_EMAIL, is_expired=is_expired)
    fields = {name: getattr(made, name) for name in made.__struct_fields__}
    due_at = made.created_at + timedelta(seconds=5)
    return fields | {"attempts": 1, "due_at": due_at, "left_s": -1.0 if is_expired else 1.0}


async def test_a_mail_whose_use_has_ended_takes_no_invoice_along() -> None:
    """An invoice that came just before would end with it, although its own use has hardly begun."""
    connection: Any = Connection([row(1, is_expired=True), row(2, is_expired=False)])
    claimed = await Outbox("a", connection, lease_s=60.0).claim(Channel.EMAIL, 10, UUID(int=9))
    assert [one.is_expired for one in claimed] == [True, False]
    for name in ("attach_invoices", "documents"):
        assert connection.asked[OUTBOX[name]] == ([1], [UUID(int=2)], ["o-1"])
