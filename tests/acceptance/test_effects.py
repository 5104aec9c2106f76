"""`postorder effects` and `postorder timeline`: what is unknown is found, told, and resolved by a person."""

import json
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from commands import postorder
from ledger import Intake, Ledger
from on_record import last_done
from real_stack import Bench, invoice_event, order_event

from pipeline.storage.outbox import Channel, Receipt, State

pytestmark = pytest.mark.acceptance

CANARY = ("Ada Example", "+14155550123", "@example.com")


class Desk:
    """The commands, on the stack of the tests."""

    def __init__(self, settings_file: Path) -> None:
        self._config = ("--config", str(settings_file))

    def __call__(self, *arguments: str, status: int = 0, text: str = "", user: str = "dora") -> str:
        done = postorder(*arguments, *self._config, text=text, COLUMNS="200", LOGNAME=user)
        assert done.returncode == status, done.stderr
        assert "Traceback" not in done.stderr
        return str(done.stdout if status == 0 else done.stderr)

    def json(self, *arguments: str) -> Any:
        return json.loads(self(*arguments, "--json"))


@pytest.fixture
def desk(settings_file: Path) -> Desk:
    return Desk(settings_file)


async def test_an_unknown_message_is_listed_shown_and_resolved(bench: Bench, desk: Desk) -> None:
    ledger = Ledger(bench)
    one, other = sorted(await ledger.unknown(2), key=lambda claim: claim.effect_id)
    listed = [json.loads(line) for line in desk("effects", "list", "--json").splitlines()]
    assert {effect["effect_id"] for effect in listed} == {str(one.effect_id), str(other.effect_id)}
    assert one.effect_id.hex[:12] in desk("effects", "list", "--channel", "sms", "--kind", "order_sms")
    assert desk("effects", "list", "--older-than-s", "3600", "--json") == ""

    shown = desk("effects", "show", one.effect_id.hex[:10])
    for text in ("lease_expired", "order_sms", "…123", one.order_id):
        assert text in shown
    assert not any(secret in shown.replace("…@example.com", "") for secret in CANARY)

    resolve = ("effects", "resolve", str(one.effect_id), "--as", "accepted", "--because", "in the console")
    assert "Aborted" in desk(*resolve, text="n\n", status=1)
    desk(*resolve, "--provider-id", "SM42", "--yes")
    [note] = [note for note in await ledger.notes() if note["what"] == "resolved"]
    assert (note["actor"], note["detail"]) == ("user dora", "unknown to accepted: in the console")
    assert (await last_done(bench.cluster, "effects.resolve", "dora")).target == str(one.effect_id)
    row = next(row for row in await ledger.rows() if row["effect_id"] == one.effect_id)
    assert (row["state"], row["provider_id"]) == ("accepted", "SM42")
    assert "only what is unknown" in desk(*resolve, "--yes", status=1)


async def test_a_message_is_sent_again_when_a_person_says_so(bench: Bench, desk: Desk) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.unknown(1)
    digits = claim.effect_id.hex
    desk("effects", "resolve", digits, "--as", "abandoned", "--because", "too late anyway", "--yes")
    assert await ledger.states() == [State.ABANDONED]
    why = desk("effects", "resolve", digits, "--as", "pending", "--because", "x", "--yes", status=1)
    assert "cannot be made pending: choose from accepted" in why
    await ledger.bench.execute("DELETE FROM outbox")
    [claim] = await ledger.unknown(1)
    desk("effects", "resolve", claim.effect_id.hex, "--as", "pending", "--because", "not there", "--yes")
    [again] = await ledger.outbox.claim(Channel.SMS, 1, uuid4())
    assert again.effect_id == claim.effect_id
    why = desk(
        "effects", "resolve", claim.effect_id.hex, "--as", "accepted", "--because", "x", "--yes", status=1
    )
    assert "it is being sent" in why


async def test_what_is_wrong_is_said_in_a_line(bench: Bench, desk: Desk) -> None:
    ledger = Ledger(bench)
    [claim] = await ledger.unknown(1)
    assert "no such message" in desk("effects", "show", "00000000000000000000000000000000", status=1)
    assert "4 to 32 hexadecimal digits" in desk("effects", "show", "xyz", status=2)
    resolve = ("effects", "resolve", claim.effect_id.hex, "--as", "accepted", "--yes", "--because")
    wrong = desk(*resolve, "two\nlines", "--provider-id", "a b", status=2)
    assert "must be a line" in wrong
    assert "visible ASCII" in wrong
    await bench.execute("UPDATE shard_slot SET state = 'leaving' WHERE slot = $1", claim.slot)
    try:
        assert "does not own 1 of the slots" in desk(*resolve, "x", status=1)
    finally:
        await bench.execute("UPDATE shard_slot SET state = 'owned' WHERE slot = $1", claim.slot)
    assert "nothing is known of it" in desk("timeline", "never-came", status=1)


async def test_the_story_of_an_order_is_told_in_order_of_time(bench: Bench, desk: Desk) -> None:
    shard = await Intake(bench).write(order_event("o-1"), invoice_event("o-1"))
    [sms] = await shard.outbox.claim(Channel.SMS, 1, uuid4())
    later = Receipt(*(sms.slot, sms.effect_id, sms.claim_id, State.PENDING), reason="20429", retry_in_s=0.0)
    await shard.outbox.record(Channel.SMS, [later])
    await shard.outbox.claim(Channel.EMAIL, 1, uuid4())
    await bench.execute("UPDATE outbox SET lease_until = now() WHERE channel = 'email'")
    shard.effects.look_anew()
    assert await shard.effects.expire_leases() == 1

    entries = desk.json("timeline", "o-1")["entries"]
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)
    told = [(entry["about"].split()[0], entry["what"]) for entry in entries]
    sms = [what for about, what in told if about == "order_sms"]
    assert sms[:2] == ["owed", "claimed"]
    assert sorted(sms[2:]) == ["due", "put off"]  # of the same moment
    assert [entry for entry in told if entry[0] == "order_email"] == [
        *(("order_email", "owed"), ("order_email", "claimed"), ("order_email", "outcome unknown"))
    ]
    assert ("invoice", "stored") in told
    assert ("order", "stored") in told
    hidden, full = desk("timeline", "o-1"), desk("timeline", "o-1", "--show-contacts")
    assert "20429" in hidden
    assert not any(secret in hidden.replace("o…@example.com", "") for secret in CANARY)
    assert all(secret in full for secret in CANARY)
