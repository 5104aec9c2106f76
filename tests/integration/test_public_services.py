"""The public listener on real shards: words in any order, moved slots, a shard away, opt-outs, bounces."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import aiohttp
import msgspec
import pytest
from ledger import Intake, accepted
from public_requests import bounce_headers
from public_site import BOUNCE_SECRET, SECRET, sms_row
from real_stack import Bench, order_event
from relay_reports import sendgrid_event, sendgrid_headers, sendgrid_key

from consumers.public.services import public_services
from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.callbacks.seals import Seals
from pipeline.notifications.rules.recipients import Recipients
from pipeline.observability.metrics import Metrics
from pipeline.settings import PublicSettings, Settings
from pipeline.sharding.router import Router
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel, Claim
from stack.ports import HOST
from stack.twilio.signature import sign

pytestmark = pytest.mark.integration

NUMBER = "+14155550123"


class Listening:
    """The services on a cluster, and requests to them."""

    def __init__(self, settings: Settings, port: int, http: aiohttp.ClientSession) -> None:
        self.settings = settings
        self.base = f"http://{HOST}:{port}"
        self._http = http

    async def say(self, claim: Claim, status: str, sid: str = "", **more: str) -> int:
        seal = Seals([SECRET]).seal(claim.slot, claim.effect_id, 1)
        fields = {
            "AccountSid": self.settings.sms.account_sid,
            "MessageSid": sid or sid_of(claim),
            "MessageStatus": status,
            **more,
        }
        path = f"/twilio/status/{seal}"
        return await self._signed(path, fields)

    async def text(self, body: str, sid: str) -> int:
        """Have a handset send a text."""
        account = self.settings.sms.account_sid
        fields = {"AccountSid": account, "MessageSid": sid, "From": NUMBER, "Body": body}
        return await self._signed("/twilio/inbound", fields)

    async def _signed(self, path: str, fields: dict[str, str]) -> int:
        signature = sign(self.settings.sms.auth_token, self.settings.public.base_url + path, fields)
        return await self.post(path, data=fields, headers={"X-Twilio-Signature": signature})

    async def post(self, path: str, **request: Any) -> int:
        async with self._http.post(self.base + path, **request) as answer:
            return answer.status


@asynccontextmanager
async def listening_on(cluster: Cluster, settings: Settings, **changes: Any) -> AsyncIterator[Listening]:
    public = PublicSettings(
        base_url="https://hooks.example", secret=SECRET, bounce_secret=BOUNCE_SECRET, **changes
    )
    settings = msgspec.structs.replace(settings, public=public)
    crashes: list[BaseException] = []
    services = public_services(
        settings,
        cluster,
        metrics=Metrics(),
        clock=SystemClock(),
        new_tasks=lambda: Tasks(lambda _name, error: crashes.append(error)),
    )
    for service in services:
        await service.start()
    try:
        async with aiohttp.ClientSession() as http:
            yield Listening(settings, services[-1].port, http)
    finally:
        for service in reversed(services):
            await service.stop()
    assert crashes == []


async def accepted_by(bench: Bench, channel: Channel, count: int = 1) -> list[Claim]:
    """Have a provider accept messages, each of an order of its own; its ids are their effect ids."""
    claims: list[Claim] = []
    for number in range(1, count + 1):
        shard = await Intake(bench).write(order_event(f"o-{number}"))
        [claim] = await shard.outbox.claim(channel, 1, uuid4())
        await shard.outbox.record(channel, [accepted(claim, sid_of(claim))])
        claims.append(claim)
    return claims


def sid_of(claim: Claim) -> str:
    return f"SM{claim.effect_id.hex}"


async def test_words_in_any_order_and_repeated_only_go_forward(bench: Bench, settings: Settings) -> None:
    [claim] = await accepted_by(bench, Channel.SMS)
    said = ["sent", "delivered", "sending", "queued", "undelivered", "delivered", "nonsense"]
    async with listening_on(bench.cluster, settings) as listening:
        for status in (*said, *said):
            assert await listening.say(claim, status) == 204
        assert (await sms_row(bench))["state"] == "delivered"
        assert await listening.say(claim, "sent", "SM" + "b" * 32) == 204
    after = await sms_row(bench)
    assert (after["state"], after["provider_id"]) == ("delivered", sid_of(claim))
    notes = await bench.rows("SELECT detail FROM effect_note WHERE what = 'status'")
    assert len([note for note in notes if "other_id" in note["detail"]]) == 1


async def test_a_word_about_a_message_that_is_gone_is_taken(bench: Bench, settings: Settings) -> None:
    [claim] = await accepted_by(bench, Channel.SMS)
    await bench.execute("DELETE FROM outbox")
    async with listening_on(bench.cluster, settings) as listening:
        assert await listening.say(claim, "delivered") == 204


async def test_an_old_map_leads_to_the_right_shard_in_the_end(bench: Bench, settings: Settings) -> None:
    claims = await accepted_by(bench, Channel.SMS, 6)
    cluster = bench.cluster
    right = cluster.router.shard_map
    first, second = cluster.shards
    swapped = tuple(second if owner == first else first for owner in right.owners)
    cluster.router = Router(msgspec.structs.replace(right, epoch=0, owners=swapped))
    async with listening_on(cluster, settings) as listening:
        answers = await asyncio.gather(*(listening.say(claim, "delivered") for claim in claims))
    assert answers == [204] * 6
    states = {(await sms_row(bench, f"o-{number}"))["state"] for number in range(1, 7)}
    assert states == {"delivered"}
    assert cluster.router.shard_map == right


async def test_while_a_shard_is_away_its_callbacks_are_answered_503(bench: Bench, settings: Settings) -> None:
    claims = await accepted_by(bench, Channel.SMS, 8)
    gone, here = bench.cluster.shards
    with socket.create_server((HOST, 0)) as closed:
        nobody = f"postgresql://postorder@{HOST}:{closed.getsockname()[1]}/postorder"
    shards = tuple(
        msgspec.structs.replace(shard, primary=nobody) if shard.name == gone else shard
        for shard in settings.shards
    )
    cluster = Cluster(msgspec.structs.replace(settings, shards=shards))
    await cluster[here].primary.open()
    await cluster.load_map()
    try:
        async with listening_on(cluster, settings, answer_timeout_s=3.0) as listening:
            for claim in claims:
                owner = cluster.router.shard_of(claim.slot)
                answer = await listening.say(claim, "delivered")
                assert answer == (503 if owner == gone else 204)
    finally:
        await cluster.close()
    assert {claim.shard for claim in claims} == {gone, here}
    for number, claim in enumerate(claims, start=1):
        is_here = claim.shard == here
        assert (await sms_row(bench, f"o-{number}"))["state"] == ("delivered" if is_here else "accepted")


async def test_a_request_repeated_to_another_process_changes_nothing(
    bench: Bench, settings: Settings
) -> None:
    """As a provider repeats one whose answer was lost, or as somebody who has recorded it does."""
    [claim] = await accepted_by(bench, Channel.SMS)
    recipients = Recipients(bench.cluster, clock=SystemClock())
    refused = {"sid": sid_of(claim), "To": NUMBER, "ErrorCode": "21610"}
    start, stop, again = (f"SM{number:032}" for number in range(3))
    async with (
        listening_on(bench.cluster, settings) as one,
        listening_on(bench.cluster, settings) as other,
    ):
        assert await one.say(claim, "undelivered", **refused) == 204
        assert (await recipients.show(Channel.SMS, NUMBER)).reason == "provider:21610"
        assert await one.text("START", start) == 200
        for process in (one, other):  # the status once more
            assert await process.say(claim, "undelivered", **refused) == 204
            assert (await recipients.show(Channel.SMS, NUMBER)).state == "in"
        assert await one.text("STOP", stop) == 200
        for process in (one, other):  # and START
            assert await process.text("START", start) == 200
            assert (await recipients.show(Channel.SMS, NUMBER)).reason == "stop"
        assert await other.text("START", again) == 200
        assert (await recipients.show(Channel.SMS, NUMBER)).state == "in"


async def test_a_bounce_makes_the_mail_undelivered_and_takes_the_address_off(
    bench: Bench, settings: Settings
) -> None:
    [claim] = await accepted_by(bench, Channel.EMAIL)
    domain = settings.email.from_address.partition("@")[2]
    report = dsn(f"<{claim.effect_id.hex}@{domain}>", "o-1@example.com")
    async with listening_on(bench.cluster, settings) as listening:
        for _ in range(2):
            signed = dict([("Content-Type", "message/rfc822"), *bounce_headers(report)])
            assert await listening.post("/mail/bounces", data=report, headers=signed) == 204
    [row] = await bench.rows("SELECT state, reason FROM outbox WHERE channel = 'email'")
    assert row == {"state": "undelivered", "reason": "5.1.1"}
    known = await Recipients(bench.cluster, clock=SystemClock()).show(Channel.EMAIL, "o-1@example.com")
    assert (known.state, known.reason) == ("out", "bounce:5.1.1")


async def test_a_relays_events_of_two_mails_count_as_what_they_say(bench: Bench, settings: Settings) -> None:
    """One is gone for good; the other was refused for a time, and a made-up one is nobody's."""
    gone, soft = await accepted_by(bench, Channel.EMAIL, 2)
    domain = settings.email.from_address.partition("@")[2]

    def event(claim: Claim, address: str, **changes: str) -> dict[str, Any]:
        return sendgrid_event(**{"smtp-id": f"<{claim.effect_id.hex}@{domain}>", "email": address, **changes})

    events = [event(gone, "O-1@example.com"), event(soft, "o-2@example.com", type="blocked")]
    body = msgspec.json.encode([*events, event(soft, "victim@example.com")])
    async with listening_on(bench.cluster, settings, sendgrid_keys=(sendgrid_key(),)) as listening:
        for _ in range(2):
            answer = await listening.post("/mail/events/sendgrid", data=body, headers=sendgrid_headers(body))
            assert answer == 204
    rows = await bench.rows("SELECT order_id, state, reason FROM outbox WHERE channel = 'email'")
    assert sorted((row["order_id"], row["state"], row["reason"]) for row in rows) == [
        ("o-1", "undelivered", "5.1.1"),
        ("o-2", "undelivered", "4.0.0"),
    ]
    assert [row["reason"] for row in await bench.rows("SELECT reason FROM recipient")] == ["bounce:5.1.1"]


def dsn(message_id: str, address: str) -> bytes:
    return f"""From: MAILER-DAEMON@relay.example
To: orders@shop.example
Subject: Undelivered Mail Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="x"

--x
Content-Type: text/plain

No such user.
--x
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; {address}
Action: failed
Status: 5.1.1

--x
Content-Type: text/rfc822-headers

Message-ID: {message_id}

--x--
""".replace("\n", "\r\n").encode()
