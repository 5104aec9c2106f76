"""The database refuses what the ledger's state machine does not know: every transition is tried."""

from uuid import uuid4

import asyncpg
import pytest
from real_stack import Bench

from pipeline.storage.outbox import State

pytestmark = pytest.mark.integration

# By state before: the states after that the database lets through, besides the same one.
ALLOWED = {
    "pending": {"submitting", "suppressed", "expired", "accepted", "delivered", "undelivered"},
    "submitting": {
        *("accepted", "delivered", "undelivered", "pending", "unknown", "suppressed", "expired", "failed"),
    },
    "unknown": {
        *("accepted", "delivered", "undelivered", "pending", "abandoned", "suppressed", "expired", "failed"),
    },
    "accepted": {"delivered", "undelivered"},
    "abandoned": {"accepted", "delivered", "undelivered"},
    **{state: set() for state in ("delivered", "undelivered", "suppressed", "expired", "failed")},
}

_OWE = """INSERT INTO outbox (slot, effect_id, order_id, channel, kind, state, expires_at)
VALUES ($1, $2, 'o', 'sms', 'order_sms', $3, now())"""

_TURN = "UPDATE outbox SET state = $2 WHERE effect_id = $1"


async def test_every_transition_is_allowed_or_refused_as_the_state_machine_says(bench: Bench) -> None:
    slot = bench.cluster.shard_map.slots_of("shard0")[0]
    connection = await asyncpg.connect(bench.stack.shards[0].primary_dsn, timeout=5)
    found: dict[str, set[str]] = {state: set() for state in State}
    try:
        for before in State:
            for after in State:
                effect_id = uuid4()
                await connection.execute(_OWE, slot, effect_id, before)
                try:
                    await connection.execute(
                        "UPDATE outbox SET state = $1 WHERE effect_id = $2", after, effect_id
                    )
                    found[before].add(after)
                except asyncpg.CheckViolationError as error:
                    assert str(error) == f"effect {effect_id}: {before} cannot become {after}"
    finally:
        await connection.close()
    assert {before: after - {before} for before, after in found.items()} == ALLOWED
    assert all(state in found[state] for state in State)  # nothing happens: always allowed
