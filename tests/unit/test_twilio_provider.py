"""The SMS provider against the emulator, whichever client it uses."""

import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import aiohttp
import msgspec
import pytest
import pytest_asyncio
from emulated_twilio import SERVICE, SID, TOKEN
from scripted_site import created, serving

from pipeline.errors import (
    AccountRefusedError,
    LeaseEndedError,
    OutcomeUnknownError,
    ThrottledError,
)
from pipeline.notifications.notification import Sms
from pipeline.notifications.provider import CannotTell, Found, NotFound
from pipeline.notifications.providers import twilio_inquiry
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.settings import SmsSettings
from stack.standin.program import in_thread
from stack.twilio.emulator import emulating, read_arguments

SENDER, TO = "+15005550006", "+14155550123"
MESSAGE = Sms(
    effect_id="00" * 16, to=TO, body="Shop: thank you, Ada! Your order 1001 over 12.50 EUR is prepared."
)
TIMEOUT_S = 0.3


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def emulator() -> AsyncIterator[str]:
    arguments = ["--port", "0", "--account-sid", SID, "--auth-token", TOKEN]
    async with in_thread(emulating(read_arguments(arguments))) as ready:
        yield ready.removeprefix("ready ")


@pytest.fixture
async def control(emulator: str) -> AsyncIterator["Control"]:
    async with aiohttp.ClientSession(emulator) as session:
        await session.post("/_control/reset", json={})
        yield Control(session)


@pytest.fixture
def url(emulator: str, control: "Control") -> str:
    return emulator


class Control:
    """The emulator's other side."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def behave(self, *faults: dict[str, Any], **behaviour: Any) -> None:
        document = behaviour | {"faults": list(faults)}
        async with self._session.put("/_control/behaviour", json=document) as response:
            assert response.status == 200, await response.text()

    async def messages(self) -> list[dict[str, Any]]:
        async with self._session.get("/_control/messages") as response:
            return (await response.json())["messages"]


def settings_of(url: str, **changes: Any) -> SmsSettings:
    values = {
        "base_url": url,
        "account_sid": SID,
        "auth_token": TOKEN,
        "from_number": SENDER,
        "timeout_s": TIMEOUT_S,
        "connect_timeout_s": TIMEOUT_S,
    }
    return SmsSettings(**{**values, **changes})


@pytest.fixture(params=["lean", "sdk"])
def client(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
async def provider(url: str, client: str) -> AsyncIterator[TwilioProvider]:
    provider = TwilioProvider(settings_of(url, client=client))
    yield provider
    await provider.close()


async def test_what_is_asked_for_arrives_to_the_letter(provider: TwilioProvider, control: Control) -> None:
    body = "Grüße & 100 % “Dank” + €5 = 😀; a/b?c#d\\e~f"
    callback = "https://shop.example/twilio/status/abc?x=1&y=2#rc=5&rp=all"
    accepted = await provider.send(
        msgspec.structs.replace(MESSAGE, body=body, callback_url=callback, valid_s=77)
    )
    [sent] = await control.messages()
    assert accepted.provider == "twilio"
    assert accepted.provider_id == sent["sid"]
    assert (sent["to"], sent["from"], sent["body"]) == (TO, SENDER, body)
    assert sent["status_callback"] == callback


async def test_a_messaging_service_picks_the_sender(url: str, client: str, control: Control) -> None:
    provider = TwilioProvider(settings_of(url, client=client, from_number="", messaging_service_sid=SERVICE))
    await provider.send(MESSAGE)
    [sent] = await control.messages()
    assert (sent["from"], sent["messaging_service_sid"]) == (None, SERVICE)
    await provider.close()


@pytest.mark.parametrize(
    "sender", [{"from_number": SENDER}, {"from_number": "", "messaging_service_sid": SERVICE}]
)
async def test_both_clients_ask_for_the_same(sender: dict[str, str]) -> None:
    message = msgspec.structs.replace(MESSAGE, valid_s=77, callback_url="https://shop.example/s/1?a=b#rc=5")
    asked = []
    for client in ("lean", "sdk"):
        async with serving(created()) as site:
            provider = TwilioProvider(settings_of(site.url, client=client, **sender))
            await provider.send(message)
            await provider.close()
            head, _, form = site.requests[0].partition(b"\r\n\r\n")
            lines = head.decode().split("\r\n")
            authorization = next(line for line in lines if line.lower().startswith("authorization: "))
            asked.append(
                (lines[0], authorization.lower(), sorted(parse_qsl(form.decode(), strict_parsing=True)))
            )
    assert asked[0] == asked[1]
    assert ("ValidityPeriod", "77") in asked[0][2]


BROKEN = ("accept_then_drop", "not_json", "truncated_body", "bad_chunks", "huge_body", "slow_body", "hang")


async def test_after_each_broken_reply_the_next_message_has_a_reply_of_its_own(
    provider: TwilioProvider, control: Control
) -> None:
    """The corpus of group L has what becomes of the message itself; see test_provider_replies."""
    faults = [{"on": "create", "action": action, "hang_ms": 60_000, "count": 1} for action in BROKEN]
    for fault in faults:
        await control.behave(fault)
        with pytest.raises(OutcomeUnknownError):
            await provider.send(MESSAGE)
        accepted = await provider.send(MESSAGE)
        assert (await control.messages())[-1]["sid"] == accepted.provider_id
    assert len(await control.messages()) == 2 * len(BROKEN)


async def test_a_sid_that_another_message_had_is_none(provider: TwilioProvider, control: Control) -> None:
    await provider.send(MESSAGE)  # 369
    await control.behave({"on": "create", "action": "duplicate_sid"})
    with pytest.raises(OutcomeUnknownError, match="another message's"):
        await provider.send(MESSAGE)


async def test_no_call_begins_after_its_time(provider: TwilioProvider, control: Control) -> None:
    with pytest.raises(LeaseEndedError):
        await provider.send(msgspec.structs.replace(MESSAGE, send_before=time.monotonic()))
    assert await control.messages() == []
    await provider.send(msgspec.structs.replace(MESSAGE, send_before=time.monotonic() + 60))
    assert len(await control.messages()) == 1


async def test_nobody_there_is_not_sent(client: str, unused_tcp_port: int) -> None:
    provider = TwilioProvider(settings_of(f"http://127.0.0.1:{unused_tcp_port}", client=client))
    with pytest.raises(ThrottledError) as caught:
        await provider.send(MESSAGE)
    assert caught.value.code == "unreachable"
    assert str(unused_tcp_port) not in str(caught.value)
    await provider.close()


async def test_a_wrong_token_stops_everything_and_tells_nothing(url: str, client: str) -> None:
    provider = TwilioProvider(settings_of(url, client=client, auth_token="wrong"))
    with pytest.raises(AccountRefusedError, match="20003"):
        await provider.send(MESSAGE)
    assert await provider.find(MESSAGE, datetime.now(UTC)) == CannotTell("20003", is_final=False)
    await provider.close()


# --- is it there? -------------------------------------------------------------------------------------


def tried() -> datetime:
    return datetime.now(UTC)


async def test_a_message_whose_reply_was_lost_is_found(provider: TwilioProvider, control: Control) -> None:
    """Also one still queued: it has not been sent, so that no filter by day of sending may be used."""
    await control.behave({"on": "create", "action": "accept_then_drop"}, delivery={"delay_ms": 600_000})
    since = tried()
    with pytest.raises(OutcomeUnknownError):
        await provider.send(MESSAGE)
    [sent] = await control.messages()
    assert await provider.find(MESSAGE, since) == Found("twilio", sent["sid"], "queued")


async def test_a_message_that_never_arrived_is_not_found(provider: TwilioProvider, control: Control) -> None:
    other = msgspec.structs.replace(MESSAGE, body="Your order 1002 over 99.00 EUR is prepared.")
    since = tried()
    await provider.send(other)
    await provider.send(msgspec.structs.replace(MESSAGE, to="+14155550124"))
    await control.behave({"on": "create", "action": "drop_before"})
    with pytest.raises(OutcomeUnknownError):
        await provider.send(MESSAGE)
    assert await provider.find(MESSAGE, since) == NotFound()


async def test_a_text_that_may_be_ours_leaves_it_open(provider: TwilioProvider) -> None:
    since = tried()
    await provider.send(msgspec.structs.replace(MESSAGE, body="Merci ! Commande 1001 (12,50 EUR)"))
    assert await provider.find(MESSAGE, since) == CannotTell("ambiguous", is_final=True)
    await provider.send(MESSAGE)
    assert isinstance(await provider.find(MESSAGE, since), Found)


async def test_messages_of_a_service_are_told_from_those_of_others(
    url: str, client: str, provider: TwilioProvider
) -> None:
    service = TwilioProvider(settings_of(url, client=client, from_number="", messaging_service_sid=SERVICE))
    since = tried()
    await provider.send(MESSAGE)
    assert await service.find(MESSAGE, since) == NotFound()
    accepted = await service.send(MESSAGE)
    assert await service.find(MESSAGE, since) == Found("twilio", accepted.provider_id, "accepted")
    await service.close()


async def test_all_pages_are_read_and_no_more_than_allowed(
    provider: TwilioProvider, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(twilio_inquiry, "PAGE_SIZE", 2)
    since = tried()
    accepted = await provider.send(MESSAGE)
    others = [msgspec.structs.replace(MESSAGE, body=f"Order {number}") for number in range(2000, 2009)]
    for other in others[:-1]:
        await provider.send(other)
    found = await provider.find(MESSAGE, since)
    assert isinstance(found, Found)
    assert found.provider_id == accepted.provider_id
    missing = msgspec.structs.replace(MESSAGE, body="Order 3000")
    assert await provider.find(missing, since) == NotFound()
    for other in others:
        await provider.send(other)
    assert await provider.find(missing, since) == CannotTell("list_too_long", is_final=True)


@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ({"action": "status", "status": 503}, "20503"),
        ({"action": "status", "status": 429}, "20429"),
        ({"action": "status", "status": 200, "body": "[]"}, "bad_list"),
        ({"action": "truncated_body"}, "no_reply"),
        ({"action": "hang", "hang_ms": 60_000}, "no_reply"),
        (
            {
                "action": "status",
                "status": 200,
                "body": '{"messages": [], "next_page_uri": "//evil.example/"}',
            },
            "bad_list",
        ),
        (
            {
                "action": "status",
                "status": 200,
                "body": '{"messages": [], "next_page_uri": "http://127.0.0.1:9/"}',
            },
            "bad_list",
        ),
        ({"action": "status", "status": 200, "body": '{"messages": [{"sid": 1}]}'}, "bad_list"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
async def test_a_list_that_cannot_be_read_tells_nothing(
    provider: TwilioProvider, control: Control, fault: dict[str, Any], why: str
) -> None:
    await control.behave({"on": "list", **fault})
    evidence = await provider.find(MESSAGE, tried())
    assert isinstance(evidence, CannotTell)
    assert not evidence.is_final
    assert evidence.why in (why, "unreachable" if why == "no_reply" else why)
