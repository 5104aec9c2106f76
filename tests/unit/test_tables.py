"""What commands print can be read and copied whole, in a pipe and in a narrow terminal."""

from datetime import UTC, datetime
from io import StringIO
from uuid import UUID

import pytest
from rich.console import Console

from consumers.get_report import money, print_order
from consumers.tables import standard_output
from pipeline.reading.views import Customer, Invoice, Message, Order, OrderView

NOW = datetime(2026, 1, 1, 12, 30, 45, tzinfo=UTC)
PROVIDER_ID = "SMd055" + "0123456789abcdef" * 2
SMS_ID, MAIL_ID = UUID(int=2**100 + 1), UUID(int=2**100 + 2)
ORDER_ID = "urn:100:" + "order" * 20


def message(effect_id: UUID) -> Message:
    return Message(
        effect_id=effect_id,
        kind="order_sms",
        channel="sms",
        state="accepted",
        invoice_id=None,
        attempts=1,
        due_at=NOW,
        accepted_at=NOW.replace(second=46),
        provider="twilio",
        provider_id=PROVIDER_ID,
        reason=None,
    )


def view() -> OrderView:
    order = Order(
        order_id=ORDER_ID,
        slot=1,
        number="1042",
        customer=Customer("c-1", None, None, None, None, None),
        currency="EUR",
        total="74.4000",
        lines=[],
        processed_at=NOW,
        recorded_at=NOW,
        source="urn:shop",
        event_id="e-1",
    )
    invoice = Invoice(
        invoice_id="inv-7",
        order_id="o-1042",
        slot=1,
        number=None,
        currency="JPY",
        total="7400.0000",
        issued_at=NOW,
        media_type="application/pdf",
        filename=None,
        document_bytes=1234,
        document_url=None,
        effect_id=MAIL_ID,
        recorded_at=NOW,
    )
    return OrderView(order, [invoice], [message(SMS_ID), message(MAIL_ID)])


def test_in_a_narrow_terminal_every_id_state_and_time_is_whole() -> None:
    out = StringIO()
    print_order(view(), Console(file=out, width=80, force_terminal=True, color_system=None, emoji=False))
    shown = out.getvalue()
    for text in (PROVIDER_ID, str(SMS_ID), str(MAIL_ID), "accepted", "2026-01-01 12:30:46", "74.40 EUR"):
        assert text in shown
    assert f"message {MAIL_ID}" in shown
    assert "7400 JPY" in shown
    assert "…" not in shown
    assert max(map(len, shown.splitlines())) <= 80


def test_into_a_pipe_a_message_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    print_order(view(), standard_output())
    lines = capsys.readouterr().out.splitlines()
    [line] = [line for line in lines if str(SMS_ID) in line]
    assert all(text in line for text in ("accepted", PROVIDER_ID, "2026-01-01 12:30:46"))
    assert any(ORDER_ID in line for line in lines)


def test_a_width_that_is_asked_for_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "90")
    assert standard_output().width == 90


@pytest.mark.parametrize(
    ("total", "currency", "shown"),
    [
        ("74.4000", "EUR", "74.40 EUR"),
        ("74.0000", "EUR", "74.00 EUR"),
        ("74.4050", "EUR", "74.405 EUR"),
        ("-3.5", "USD", "-3.50 USD"),
        ("7400.0000", "JPY", "7400 JPY"),
        ("1.2500", "KWD", "1.250 KWD"),
        ("100", "XXX", "100 XXX"),
        ("100.10", "XXX", "100.1 XXX"),
    ],
)
def test_money_has_the_decimals_of_its_currency(total: str, currency: str, shown: str) -> None:
    assert money(total, currency) == shown
