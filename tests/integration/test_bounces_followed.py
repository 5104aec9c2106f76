"""`postorder bounces read --follow` goes on for weeks: a shard that is added meanwhile is asked as well."""

import asyncio
from contextlib import suppress
from pathlib import Path
from uuid import uuid4

import pytest
from customers import store
from moving_shards import Moving, add_few
from real_stack import order_event

from consumers import bounces_commands
from consumers.command import find_shard_in
from consumers.mailboxes import Mailbox
from consumers.resharding import carry_out, opened
from pipeline.resharding.progress import nobody
from pipeline.resharding.throttle import Limits
from pipeline.settings import load_settings
from pipeline.sharding.slots import slot_of
from pipeline.storage.outbox import Channel, Receipt, State

pytestmark = pytest.mark.integration

BOUNCE = """X-Failed-Recipients: {order}@example.com
In-Reply-To: <{effect_id}@{domain}>

550 5.1.1 no such user
"""


async def sent(moving: Moving) -> dict[str, str]:
    """Have the mail of each order accepted; return their effect ids by order."""
    await moving.bench.execute("UPDATE outbox SET due_at = now() WHERE state = 'pending'")
    found = {}
    for shard in moving.bench.cluster:
        for claim in await shard.outbox.claim(Channel.EMAIL, 10, uuid4()):
            receipt = Receipt(claim.slot, claim.effect_id, claim.claim_id, State.ACCEPTED, "smtp", "<id>")
            await shard.outbox.record(Channel.EMAIL, [receipt])
            found[claim.order_id] = claim.effect_id.hex
    return found


async def test_bounces_of_mails_that_moved_to_a_new_shard_are_taken(
    moving: Moving, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bounces_commands, "_LOOK_S", 0.05)
    for folder in ("tmp", "new", "cur"):
        (tmp_path / "mail" / folder).mkdir(parents=True)
    config = tmp_path / "postorder.toml"
    config.write_text(moving.two.read_text())
    async with opened(moving.settings) as cluster:
        slots = {move.slot for move in add_few(cluster)}
    leaving = next(name for name in (f"o-{number}" for number in range(9999)) if slot_of(name) in slots)
    await store(moving.bench, order_event("stays"), order_event(leaving))
    mails = await sent(moving)
    settings = load_settings(config, {})
    domain = settings.email.from_address.partition("@")[2]

    async def bounce(order: str) -> None:
        text = BOUNCE.format(order=order, effect_id=mails[order], domain=domain)
        (tmp_path / "mail" / "tmp" / order).write_text(text)
        (tmp_path / "mail" / "tmp" / order).rename(tmp_path / "mail" / "new" / order)

        async def is_taken() -> bool:
            rows = await moving.bench.rows(
                "SELECT FROM outbox JOIN shard_slot USING (slot) "
                "WHERE order_id = $1 AND outbox.state = 'undelivered'",
                order,
            )
            return len(rows) == 1 or reading.done()

        await moving.bench.until_true(is_taken)

    reading = asyncio.create_task(
        bounces_commands._read(settings, find_shard_in(config), Mailbox(tmp_path / "mail"), follow=True)
    )
    await bounce("stays")
    config.write_text(moving.config.read_text())
    await carry_out(moving.settings, add_few, Limits(), nobody, finish=True)
    await bounce(leaving)
    assert not reading.done()
    reading.cancel()
    with suppress(asyncio.CancelledError):
        await reading
