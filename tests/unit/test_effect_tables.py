"""What upstream sent can neither break a table that an operator looks at, nor do anything to the terminal."""

from datetime import UTC, datetime
from io import StringIO
from uuid import UUID

import pytest
from rich.console import Console
from rich.table import Table

from consumers.effects_commands import print_effects
from consumers.timeline_report import effect_table, order_table
from pipeline.storage.effect_desk import Effect, StoredOrder
from pipeline.storage.outbox import Channel, Kind, State

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOSTILE = ["[/b]1", "[b]1[/b]", "[link=https://example.com]1", "1\x1b[31m", "1\r2"]


def effect(text: str) -> Effect:
    return Effect(
        shard="a",
        slot=1,
        effect_id=UUID(int=1),
        order_id=text,
        invoice_id=text,
        channel=Channel.SMS,
        kind=Kind.ORDER_SMS,
        state=State.UNKNOWN,
        attempts=1,
        reason=text,
        provider="twilio",
        provider_id=text,
        provider_status=None,
        created_at=NOW,
        due_at=NOW,
        claim_id=None,
        claimed_at=None,
        lease_until=None,
        accepted_at=None,
        settled_at=None,
        provider_status_at=None,
        expires_at=NOW,
    )


def order(text: str) -> StoredOrder:
    return StoredOrder(
        order_id=text,
        number=text,
        customer_id=text,
        customer_name=text,
        email=text,
        phone=text,
        locale=text,
        country=text,
        event_source=text,
        event_id=text,
        event_time=NOW,
        recorded_at=NOW,
    )


def printed(shown: Table | list[Effect], width: int = 400) -> str:
    console = Console(file=StringIO(), width=width, force_terminal=True)
    if isinstance(shown, list):
        print_effects(shown, console)
    else:
        console.print(shown)
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


@pytest.mark.parametrize("text", HOSTILE)
def test_a_text_of_upstream_is_shown_as_it_is(text: str) -> None:
    shown = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    for table in (
        [effect(text)],
        effect_table(effect(text), order(text)),
        order_table(order(text)),
    ):
        out = printed(table)
        assert out.count(shown) >= 3
        assert text == shown or text not in out


@pytest.mark.parametrize("width", [80, 400])
def test_messages_of_one_order_can_be_told_from_each_other(width: int) -> None:
    """Their ids differ in their last digits alone, and `effects show` takes none that fits two."""
    out = printed([effect("o-1")], width)
    assert UUID(int=1).hex in out
