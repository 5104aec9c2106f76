"""Each answer of a provider, and the receipt it becomes."""

from datetime import UTC, datetime
from uuid import UUID

import msgspec
import pytest
from structlog.testing import capture_logs

from pipeline.backoff import Backoff
from pipeline.clock import SystemClock
from pipeline.errors import (
    DocumentError,
    DocumentUnavailableError,
    HeldBackError,
    LeaseEndedError,
    OutcomeUnknownError,
    RecipientRefusedError,
    RejectedError,
    ThrottledError,
)
from pipeline.notifications.dispatcher import Dispatcher
from pipeline.notifications.provider import Accepted
from pipeline.observability.correlation import correlation_id
from pipeline.storage.outbox import Channel, Claim, InvoiceDocument, Kind, Receipt, State


def claim(attempt: int = 1, *, is_expired: bool = False) -> Claim:
    return Claim(
        shard="s",
        slot=1,
        effect_id=UUID(int=1),
        claim_id=UUID(int=2),
        channel=Channel.SMS,
        kind=Kind.ORDER_SMS,
        order_id="o-1",
        invoice_id=None,
        attempt=attempt,
        is_expired=is_expired,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        event_time=None,
        number=None,
        customer_name=None,
        email=None,
        phone=None,
        locale=None,
        country=None,
        currency="EUR",
        total="1",
        lines="[]",
    )


left_out: list[str] = []
sent: list[tuple[str, int]] = []


async def receipt(
    answer: Exception | Accepted, of: Claim | None = None, rule: Exception | None = None
) -> Receipt:
    async def compose(claim: Claim) -> str:
        return f"message of {claim.order_id}"

    async def check(_claim: Claim, message: str) -> None:
        if isinstance(rule, Exception):
            raise rule

    async def send(message: str, attempt: int) -> Accepted:
        sent.append((message, attempt))
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def leave_out(_claim: Claim, invoice_id: str) -> None:
        left_out.append(invoice_id)

    async def settle(_claim: Claim, receipt: Receipt) -> None:
        settled.append(receipt)

    settled: list[Receipt] = []
    retry = Backoff(base_s=1, ceiling_s=8)
    dispatcher = Dispatcher(
        compose=compose,
        check=check,
        send=send,
        leave_out=leave_out,
        settle=settle,
        retry=retry,
        attempts_max=3,
        clock=SystemClock(),
    )
    found = await dispatcher.dispatch(of or claim())
    assert settled == [found]  # whatever becomes of it, and before it is recorded
    return found


async def test_acceptance() -> None:
    found = await receipt(Accepted("twilio", "SM1"))
    assert (found.state, found.provider, found.provider_id) == (State.ACCEPTED, "twilio", "SM1")
    assert found.accepted_at is not None


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (RecipientRefusedError("21610", "opted out"), State.SUPPRESSED, "21610"),
        (RejectedError("554", "no"), State.FAILED, "554"),
        (OutcomeUnknownError("no_reply", "lost"), State.UNKNOWN, "no_reply"),
        (ThrottledError("20429", "slow down"), State.PENDING, "20429"),
        (DocumentUnavailableError("i-1", "host away"), State.PENDING, "document"),
        (DocumentError("i-1", "too large"), State.FAILED, "document"),
        (ZeroDivisionError(), State.UNKNOWN, "crash:ZeroDivisionError"),
    ],
)
async def test_each_error_has_its_state(error: Exception, state: State, reason: str) -> None:
    found = await receipt(error)
    assert (found.state, found.reason) == (state, reason)
    assert (found.retry_in_s is not None) == (state is State.PENDING)


@pytest.mark.parametrize(
    ("error", "least_s", "most_s"),
    [(HeldBackError("rate_limited", "", 7.0), 7.0, 8.0), (HeldBackError("retry_budget", ""), 0.0, 1.0)],
)
async def test_what_was_held_back_comes_again_untried(
    error: Exception, least_s: float, most_s: float
) -> None:
    found = await receipt(error, claim(5))
    assert (found.state, found.is_untried) == (State.PENDING, True)
    assert found.retry_in_s is not None
    assert least_s <= found.retry_in_s <= most_s


async def test_a_claim_whose_lease_ended_is_given_back_at_once() -> None:
    found = await receipt(LeaseEndedError())
    assert (found.state, found.is_untried, found.retry_in_s) == (State.PENDING, True, None)


async def test_a_rule_keeps_a_message_from_its_provider() -> None:
    sent.clear()
    refused = await receipt(Accepted("twilio", "SM1"), rule=RecipientRefusedError("opted_out", ""))
    put_off = await receipt(Accepted("twilio", "SM1"), rule=ThrottledError("quiet_hours", "", 600))
    assert (refused.state, refused.reason) == (State.SUPPRESSED, "opted_out")
    assert (put_off.state, put_off.is_untried) == (State.PENDING, False)
    assert sent == []


async def test_the_provider_gets_the_message_and_the_attempt() -> None:
    sent.clear()
    await receipt(Accepted("twilio", "SM1"), claim(2))
    assert sent == [("message of o-1", 2)]


@pytest.mark.parametrize(
    "error", [ThrottledError("quiet_hours", "", 3600), HeldBackError("retry_after", "", 3600)]
)
async def test_nothing_waits_beyond_its_use(error: Exception) -> None:
    for left_s in (30.0, -1.0):
        of = msgspec.structs.replace(claim(), useful_until=SystemClock().monotonic() + left_s)
        found = await receipt(error, of)
        assert found.retry_in_s == pytest.approx(max(0.0, left_s), abs=0.5)


async def test_an_unknown_outcome_is_never_tried_again() -> None:
    for attempt in (1, 2, 3, 9):
        assert (await receipt(OutcomeUnknownError("no_reply", ""), claim(attempt))).state is State.UNKNOWN


async def test_retry_after_is_the_least_wait() -> None:
    for _ in range(200):
        found = await receipt(ThrottledError("20429", "", retry_after_s=60))
        assert 60 <= found.retry_in_s <= 61


async def test_the_last_attempt_fails() -> None:
    away = DocumentUnavailableError("i-1", "")
    assert (await receipt(away, claim(2))).state is State.PENDING
    assert (await receipt(away, claim(3))).state is State.FAILED


async def test_a_provider_that_is_away_is_waited_for_while_the_message_is_of_use() -> None:
    assert (await receipt(ThrottledError("unreachable", ""), claim(1000))).state is State.PENDING


async def test_an_order_mail_goes_without_an_invoice_that_cannot_be_had() -> None:
    left_out.clear()
    mail = msgspec.structs.replace(claim(), kind=Kind.ORDER_EMAIL)
    found = await receipt(DocumentError("i-1", "gone"), mail)
    assert (found.state, found.retry_in_s, left_out) == (State.PENDING, 0.0, ["i-1"])


@pytest.mark.parametrize(("invoices", "state"), [(1, State.FAILED), (2, State.PENDING)])
async def test_a_mail_of_several_invoices_goes_without_one_that_cannot_be_had(
    invoices: int, state: State
) -> None:
    left_out.clear()
    invoice = InvoiceDocument(
        invoice_id="i-1", number=None, currency="EUR", total="1", media_type="application/pdf",
        filename=None, content=None, url="https://documents.example/i-1",
    )  # fmt: skip
    mail = msgspec.structs.replace(claim(), kind=Kind.INVOICE_EMAIL, invoices=(invoice,) * invoices)
    found = await receipt(DocumentError("i-1", "gone"), mail)
    assert (found.state, left_out) == (state, ["i-1"] if state is State.PENDING else [])


@pytest.mark.parametrize("error", [RejectedError("554", "no"), ZeroDivisionError()])
async def test_a_line_about_a_message_has_the_ids_to_find_it_by(error: Exception) -> None:
    with capture_logs() as logs:
        await receipt(error)
    assert [(line["effect_id"], line["correlation_id"]) for line in logs] == [
        (UUID(int=1).hex, correlation_id("o-1"))
    ]


async def test_an_expired_message_is_not_sent() -> None:
    found = await receipt(AssertionError("must not be called"), claim(is_expired=True))
    assert found.state is State.EXPIRED
