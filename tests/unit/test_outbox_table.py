"""What a claim of messages brings: which invoices mails take along, and who is told."""

from datetime import UTC, datetime, timedelta
from operator import attrgetter
from typing import Any, Self
from uuid import UUID

from claims import claim

from pipeline.storage.outbox import Channel, Claim, Kind
from pipeline.storage.outbox_table import Outbox
from pipeline.storage.statements import OUTBOX

COLUMNS = (
    *(
        "slot",
        "effect_id",
        "claim_id",
        "kind",
        "order_id",
        "invoice_id",
        "attempts",
        "created_at",
        "event_time",
    ),
    *("number", "customer_name", "email", "phone", "locale", "country", "currency", "total", "lines"),
    *("customer_id", "age_s", "left_s", "due_at", "trace_context", "was_held"),
)
ISSUED = datetime(2026, 11, 20, tzinfo=UTC)


class Row(tuple[Any, ...]):
    """As the driver's: by place or by name."""

    __slots__ = ()

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(COLUMNS.index(key) if isinstance(key, str) else key)


class Connection:
    """Returns rows for a claim, and keeps what it was asked with. A transaction and a node besides."""

    def __init__(self, *rows: Row, invoices: tuple[tuple[Any, ...], ...] = ()) -> None:
        self._answers = {OUTBOX["claim"]: rows, OUTBOX["carry_invoices"]: invoices}
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

    async def fetch(self, statement: str, *arguments: Any) -> tuple[tuple[Any, ...], ...]:
        self.asked[statement] = arguments
        return self._answers[statement]


def row(number: int, *, left_s: float = 1.0) -> Row:
    made = claim(effect_id=UUID(int=number), kind=Kind.ORDER_EMAIL, customer_id=f"c-{number}")
    given = {"attempts": 1, "age_s": 2.0, "left_s": left_s, "due_at": made.created_at + timedelta(seconds=5)}
    return Row(given[name] if name in given else getattr(made, name) for name in COLUMNS)


def outbox_on(connection: Connection) -> Outbox:
    node: Any = connection
    return Outbox("a", node, lease_s=60.0)


async def test_a_mail_whose_use_has_ended_takes_no_invoice_along() -> None:
    """An invoice that came just before would end with it, although its own use has hardly begun."""
    connection = Connection(row(1, left_s=0.0), row(2))
    claimed = await outbox_on(connection).claim(Channel.EMAIL, 10, UUID(int=9))
    assert [one.is_expired for one in claimed] == [True, False]
    assert connection.asked[OUTBOX["carry_invoices"]] == ([1], [UUID(int=2)], ["o-1"], [True])


async def test_an_invoice_keeps_the_date_on_which_it_was_issued() -> None:
    values = ("i-1", None, "EUR", "1.00", "application/pdf", None, None, None, ISSUED)
    connection = Connection(
        row(1), row(2), invoices=((UUID(int=2), *values), (UUID(int=2), "i-2", *values[1:]))
    )
    first, second = await outbox_on(connection).claim(Channel.EMAIL, 10, UUID(int=9))
    assert first.invoices == ()
    assert [one.invoice_id for one in second.invoices] == ["i-1", "i-2"]
    assert [one.issued_at for one in second.invoices] == [ISSUED, ISSUED]


async def test_a_claim_says_which_trace_its_message_belongs_to() -> None:
    values = list(row(1))
    values[COLUMNS.index("trace_context")] = "00-" + "1" * 32 + "-" + "2" * 16 + "-01"
    outbox = outbox_on(Connection(Row(values), row(2)))
    claimed = await outbox.claim(Channel.SMS, 10, UUID(int=9))
    assert [one.trace_context for one in claimed] == [values[COLUMNS.index("trace_context")], None]


async def test_who_looks_things_up_for_claims_is_told_of_the_whole_set() -> None:
    told: list[list[Claim]] = []
    outbox = outbox_on(Connection(row(1), row(2)))
    outbox.on_claimed.append(lambda claims: told.append(list(claims)))
    claimed = await outbox.claim(Channel.SMS, 10, UUID(int=9))
    assert told == [claimed]
    assert list(map(attrgetter("customer_id", "age_s", "attempt"), claimed)) == [
        ("c-1", 2.0, 1),
        ("c-2", 2.0, 1),
    ]
