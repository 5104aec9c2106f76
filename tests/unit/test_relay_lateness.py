"""How late a message is, as the objective counts it: what waits on purpose is not late."""

from datetime import UTC, datetime, timedelta

from claims import claim
from relays import Sender, Shard, relay
from virtual_clock import VirtualClock, settle

from pipeline.observability.metrics import Metrics
from pipeline.storage.outbox import Claim, Receipt

OWED = datetime(2026, 1, 1, tzinfo=UTC)


class Accepting(Sender):
    """Has everything accepted so many seconds after it was owed."""

    def __init__(self, after_s: float) -> None:
        super().__init__()
        self.at = OWED + timedelta(seconds=after_s)

    async def dispatch(self, claim: Claim) -> Receipt:
        return (await super().dispatch(claim))._replace(accepted_at=self.at)


async def test_each_stage_of_a_message_is_timed_from_the_end_of_the_one_before() -> None:
    """Owed, claimed 15 s later, accepted 40 s after it was owed; a second try is no first claim."""
    claims = [claim(slot=0, created_at=OWED, age_s=15.0, attempt=attempt) for attempt in (1, 2)]

    async def some(limit: int) -> list[Claim]:
        return [claims.pop() for _ in range(min(limit, len(claims)))]

    clock, metrics = VirtualClock(), Metrics()
    running = relay(clock, Shard("a", some), sender=Accepting(40), metrics=metrics)
    await running.start()
    await clock.pass_by(1.0)
    await settle()
    await running.stop()
    assert metrics.committed_to_claimed.under("order_sms").totals() == (1, 15)
    assert metrics.claimed_to_accepted.under("order_sms").totals() == (2, 2 * 25)


async def test_what_was_held_does_not_count_and_a_mail_counts_from_the_end_of_its_grace() -> None:
    due = {
        "held by a rule": (3600, True),
        "held up otherwise": (3600, False),
        "at once": (0, False),
        "brought forward": (-3, False),
    }
    claims = [
        claim(slot=0, created_at=OWED, due_at=OWED + timedelta(seconds=due_s), was_held=was_held)
        for due_s, was_held in due.values()
    ]

    async def some(limit: int) -> list[Claim]:
        return [claims.pop() for _ in range(min(limit, len(claims)))]

    clock, metrics = VirtualClock(), Metrics()
    running = relay(clock, Shard("a", some), sender=Accepting(40), metrics=metrics, grace_s=30.0)
    await running.start()
    await clock.pass_by(1.0)
    await settle()
    await running.stop()
    assert metrics.due_to_accepted.under("order_sms").totals() == (3, (40 - 30) + 40 + (40 + 3))
    assert metrics.created_to_accepted.under("order_sms").totals() == (4, 4 * 40)
