"""Webhooks: the signature against Twilio's vectors and validator, status callbacks, inbound messages."""

import asyncio
import contextlib
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import parse_qsl

import aiohttp
import pytest
from aiohttp import web
from emulated_twilio import SERVICE, SID, TOKEN, emulated
from twilio.request_validator import RequestValidator

from stack.twilio import status_callbacks
from stack.twilio.behaviour import Behaviour, Conduct
from stack.twilio.messages import Message
from stack.twilio.signature import sign
from stack.twilio.status_callbacks import Callback, CallbackSender

MESSAGES = f"/2010-04-01/Accounts/{SID}/Messages.json"
TO, SENDER = "+15551234567", "+15005550006"
VECTORS = json.loads((Path(__file__).parents[1] / "data/twilio/signature_vectors.json").read_text())[
    "vectors"
]


class Receiver:
    """A webhook endpoint: keeps what it is sent, checked with Twilio's own validator."""

    def __init__(self):
        self.posts = asyncio.Queue()
        self.statuses = []  # to reply with, in turn; 204 after that
        self.released = asyncio.Event()
        self.released.set()

    async def handle(self, request):
        params = dict(parse_qsl((await request.read()).decode(), keep_blank_values=True))
        valid = RequestValidator(TOKEN).validate(
            str(request.url), params, request.headers["X-Twilio-Signature"]
        )
        await self.posts.put((params, valid))
        await self.released.wait()
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    async def get(self):
        async with asyncio.timeout(5):
            return await self.posts.get()


@pytest.fixture
async def receiver():
    receiver = Receiver()
    runner = web.ServerRunner(web.Server(receiver.handle), shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    receiver.url = f"http://127.0.0.1:{runner.addresses[0][1]}/status?shop=1&x=%2B%20y"
    yield receiver
    receiver.released.set()
    await runner.cleanup()


@pytest.fixture
async def session():
    headers = {"Authorization": aiohttp.encode_basic_auth(SID, TOKEN)}
    async with emulated() as url, aiohttp.ClientSession(url, headers=headers) as session:
        yield session


async def behave(session, **behaviour):
    async with session.put("/_control/behaviour", json=behaviour) as response:
        assert response.status == 200, await response.text()


async def create(session, **fields):
    form = {"To": TO, "From": SENDER, "Body": "hello"} | fields
    async with session.post(MESSAGES, data=form) as response:
        return response.status, await response.json()


async def inbound(session, **fields):
    async with session.post("/_control/inbound", json={"From": TO, "To": SENDER} | fields) as response:
        assert response.status == 200, await response.text()
        return await response.json()


async def callbacks(session, settled):
    """Wait until so many callbacks came to an end, then return the counters."""
    async with session.get(f"/_control/wait?callbacks={settled}&timeout_s=5") as response:
        assert (await response.json())["reached"]
    async with session.get("/_control/requests") as response:
        return (await response.json())["callbacks"]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_signature_vectors(vector):
    assert sign(vector["auth_token"], vector["signed_url"], vector["params"]) == vector["signature"]


def test_signature_is_what_the_validator_computes():
    url, params = "https://example.com/a?b=c", {"Body": "Grüße, 12 €", "To": TO, "Empty": ""}
    assert RequestValidator(TOKEN).validate(url, params, sign(TOKEN, url, params))
    assert not RequestValidator(TOKEN).validate(url, params | {"To": "+1"}, sign(TOKEN, url, params))


async def test_status_callbacks_follow_the_message(session, receiver):
    await behave(session, delivery={"delay_ms": 30})
    _, message = await create(session, StatusCallback=receiver.url)
    posts = [await receiver.get() for _ in range(3)]
    assert all(valid for _, valid in posts)
    assert {params["MessageStatus"] for params, _ in posts} == {"sending", "sent", "delivered"}
    params = posts[0][0]
    assert params.pop("MessageStatus") == params.pop("SmsStatus")
    assert params == {
        "AccountSid": SID,
        "ApiVersion": "2010-04-01",
        "From": SENDER,
        "MessageSid": message["sid"],
        "SmsSid": message["sid"],
        "To": TO,
    }
    assert await callbacks(session, 3) == {"pending": 0, "settled": 3, "scheduled": 3, "delivered": 3}


async def test_connection_overrides_are_neither_sent_nor_signed(session, receiver):
    form = {"To": TO, "From": SENDER, "Body": "hi", "StatusCallback": f"{receiver.url}#rc=5&rp=5xx,ct"}
    async with session.post(MESSAGES, data=form) as reply:
        assert reply.status == 201
    _, valid = await receiver.get()
    assert valid


async def test_no_callback_without_a_url(session, receiver):
    await behave(session, delivery={"delay_ms": 0})
    await create(session)
    await create(session, StatusCallback=receiver.url)
    assert (await callbacks(session, 3))["scheduled"] == 3


async def test_failed_message_says_why(session, receiver):
    await behave(session, delivery={"delay_ms": 0, "status": "failed", "error_code": 30007})
    await create(session, StatusCallback=receiver.url)
    posts = [(await receiver.get())[0] for _ in range(2)]
    codes = {params["MessageStatus"]: params.get("ErrorCode") for params in posts}
    assert codes == {"sending": None, "failed": "30007"}


async def test_messaging_service_is_queued_first(session, receiver):
    await behave(session, delivery={"delay_ms": 0})
    await create(session, MessagingServiceSid=SERVICE, StatusCallback=receiver.url)
    posts = [(await receiver.get())[0] for _ in range(4)]
    assert {params["MessageStatus"] for params in posts} == {"queued", "sending", "sent", "delivered"}
    assert {params["MessagingServiceSid"] for params in posts} == {SERVICE}


async def test_server_errors_are_retried_and_client_errors_are_not(session, receiver):
    await behave(session, delivery={"delay_ms": 0, "status": "sending"}, callbacks={"retry_delay_ms": 0})
    receiver.statuses = [500, 503]
    await create(session, StatusCallback=receiver.url)
    counts = await callbacks(session, 1)
    assert (counts["delivered"], counts["retried"], receiver.posts.qsize()) == (1, 2, 3)
    receiver.statuses = [404]
    await create(session, StatusCallback=receiver.url)
    counts = await callbacks(session, 2)
    assert (counts["refused"], counts["retried"], receiver.posts.qsize()) == (1, 2, 4)


async def test_attempts_and_time_are_bounded(session, receiver):
    receiver.released.clear()
    await behave(
        session,
        delivery={"delay_ms": 0, "status": "sending"},
        callbacks={"attempts": 2, "timeout_ms": 50, "retry_delay_ms": 0},
    )
    await create(session, StatusCallback=receiver.url)
    await create(session, StatusCallback="http://127.0.0.1:1/nobody")
    counts = await callbacks(session, 2)
    assert (counts["failed"], counts["retried"], receiver.posts.qsize()) == (2, 2, 2)


async def test_callback_faults(session, receiver):
    actions = ("skip", "twice", "bad_signature")
    await behave(
        session,
        delivery={"delay_ms": 0, "status": "sending"},
        faults=[{"on": "callback", "action": action, "count": 1} for action in actions],
    )
    for _ in range(4):
        await create(session, StatusCallback=receiver.url)
    counts = await callbacks(session, 4)
    assert counts["delivered"] == receiver.posts.qsize() == 4
    assert [counts[f"fault.{action}"] for action in actions] == [1, 1, 1]
    assert sorted([(await receiver.get())[1] for _ in range(4)]) == [False, True, True, True]


async def test_callbacks_can_be_late(session, receiver):
    late = {"on": "callback", "action": "pass", "latency_ms": 60_000, "count": 1}
    await behave(session, delivery={"delay_ms": 0, "status": "sent"}, faults=[late])
    await create(session, StatusCallback=receiver.url)
    params, _ = await receiver.get()
    assert params["MessageStatus"] == "sent"  # and "sending" follows in a minute


async def test_reset_forgets_scheduled_callbacks(session, receiver):
    send_at = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    schedule = {"MessagingServiceSid": SERVICE, "ScheduleType": "fixed", "SendAt": send_at}
    status, _ = await create(session, StatusCallback=receiver.url, **schedule)
    assert status == 201
    assert (await callbacks(session, 0))["pending"] == 4
    async with session.post("/_control/reset") as response:
        assert response.status == 200
    assert await callbacks(session, 0) == {"pending": 0, "settled": 0}


async def test_canceled_message_is_not_followed(receiver):
    sender = CallbackSender(TOKEN, Conduct(Behaviour()))
    sender.start()
    message = Message(to=TO, sender=SENDER, body="hello", final="canceled")
    sender.put(0.0, Callback(url=receiver.url, params={}, message=message))
    assert await sender.settled.reach(1, timeout_s=5)
    assert sender.counts == {"scheduled": 1, "canceled": 1}
    await sender.stop()


async def test_pending_callbacks_are_bounded(monkeypatch):
    monkeypatch.setattr(status_callbacks, "PENDING_MAX", 2)
    sender = CallbackSender(TOKEN, Conduct(Behaviour()))
    message = Message(to=TO, sender=SENDER, body="hello")
    for _ in range(3):
        sender.put(0.0, Callback(url="http://127.0.0.1:1/", params={}, message=message))
    assert sender.counts == {"scheduled": 2, "dropped": 1}


@pytest.mark.parametrize("word", ["STOP", " stop ", "Unsubscribe", "QUIT", "cancel", "END", "StopAll"])
async def test_stop_words_opt_out(session, word):
    assert await inbound(session, Body=word) | {"sid": ""} == {
        "sid": "",
        "opt_out_type": "STOP",
        "opted_out": True,
        "webhook": None,
    }
    status, error = await create(session)
    assert (status, error["code"]) == (400, 21610)
    assert (await create(session, To="+15550000000"))[0] == 201
    assert (await inbound(session, Body="START"))["opted_out"] is False
    assert (await create(session))[0] == 201


async def test_other_words_change_nothing(session):
    reply = await inbound(session, Body="Please stop")
    assert (reply["opt_out_type"], reply["opted_out"]) == (None, False)
    assert (await create(session))[0] == 201


async def test_inbound_message_is_posted_and_listed(session, receiver):
    await behave(session, inbound_url=receiver.url)
    reply = await inbound(session, Body="STOP")
    assert reply["webhook"] == receiver.url
    params, valid = await receiver.get()
    assert valid
    assert params == {
        "AccountSid": SID,
        "ApiVersion": "2010-04-01",
        "Body": "STOP",
        "From": TO,
        "MessageSid": reply["sid"],
        "NumMedia": "0",
        "NumSegments": "1",
        "OptOutType": "STOP",
        "SmsMessageSid": reply["sid"],
        "SmsSid": reply["sid"],
        "SmsStatus": "received",
        "To": SENDER,
    }
    async with session.get(MESSAGES, params={"From": TO}) as response:
        (message,) = (await response.json())["messages"]
    assert (message["sid"], message["direction"], message["status"]) == (reply["sid"], "inbound", "received")


async def test_stopping_does_not_wait_for_callbacks(receiver):
    receiver.released.clear()
    headers = {"Authorization": aiohttp.encode_basic_auth(SID, TOKEN)}
    async with contextlib.AsyncExitStack() as stack:
        url = await stack.enter_async_context(emulated())
        session = await stack.enter_async_context(aiohttp.ClientSession(url, headers=headers))
        await behave(session, delivery={"delay_ms": 0}, callbacks={"timeout_ms": 60_000})
        await create(session, StatusCallback=receiver.url)
        await receiver.get()
        started = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - started < 2
