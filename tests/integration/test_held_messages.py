"""Messages that wait because a rule of ours says so: their claims know it, whatever else happens to them."""

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest
from ledger import Intake, Ledger
from real_stack import Bench, order_event

from pipeline.storage.outbox import Channel, Claim, Receipt, State

pytestmark = pytest.mark.integration


def put_off(claim: Claim, reason: str) -> Receipt:
    """A message that nobody was called for, to be looked at again at once."""
    receipt = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.PENDING, reason=reason)
    return receipt._replace(retry_in_s=0.0, is_untried=True)


@pytest.mark.parametrize(("reasons", "is_held"), [
    (["quiet_hours"], True), (["daily_cap"], True), (["spend_prefix"], True), (["rate_limited"], True),
    (["quiet_hours", "circuit_open"], True), (["contact_unknown", "429"], True),
    (["circuit_open"], False), (["recipients_unavailable", "retry_after"], False),
])  # fmt: skip
async def test_a_claim_knows_whether_its_message_was_ever_held(
    bench: Bench,
    reasons: list[str],
    is_held: bool,  # noqa: FBT001
) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.claimed(1)
    assert not claim.was_held
    for reason in reasons:
        await ledger.outbox.record(Channel.SMS, [put_off(claim, reason)])
        [claim] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert claim.was_held is is_held


async def test_a_claim_says_when_its_message_was_due(bench: Bench) -> None:
    shard = await Intake(bench, grace_s=-30.0).write(order_event("o-1"))
    [mail] = await shard.outbox.claim(Channel.EMAIL, 1, uuid4())
    assert mail.due_at is not None
    assert mail.due_at - mail.created_at == timedelta(seconds=-30)
    assert abs(datetime.now(UTC) - mail.created_at) < timedelta(seconds=20)
