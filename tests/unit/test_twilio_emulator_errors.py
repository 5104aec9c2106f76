"""Every error reply: code, HTTP status and the shape Twilio gives them."""

import io

import aiohttp
import pytest
from emulated_twilio import SERVICE, SID, TOKEN, emulated

from stack.twilio.create_request import MAGIC_FROM, MAGIC_TO
from stack.twilio.errors import REQUEST_ERRORS

BASE = f"/2010-04-01/Accounts/{SID}"
GOOD = {"To": "+15551234567", "From": "+15005550006", "Body": "hello"}


@pytest.fixture
async def url():
    async with emulated() as url:
        yield url


@pytest.fixture
async def session(url):
    authorization = aiohttp.encode_basic_auth(SID, TOKEN)
    async with aiohttp.ClientSession(url, headers={"Authorization": authorization}) as session:
        yield session


async def error_of(response, status=None):
    assert response.content_type == "application/json"
    body = await response.json()
    assert body.keys() == {"code", "message", "more_info", "status"}
    assert body["status"] == response.status == (status or response.status)
    assert body["more_info"] == f"https://www.twilio.com/docs/errors/{body['code']}"
    assert body["message"]
    return body["code"]


async def create(session, form):
    async with session.post(f"{BASE}/Messages.json", data=form) as response:
        if response.status == 201:
            return 201
        code = await error_of(response)
        assert response.status == REQUEST_ERRORS[code][0]
        return code


def changed(**fields):
    form = GOOD | fields
    return {name: value for name, value in form.items() if value is not None}


@pytest.mark.parametrize(
    ("form", "code"),
    [
        (changed(To=None), 21604),
        (changed(To=""), 21604),
        (changed(Body=None), 21602),
        (changed(Body=""), 21602),
        (changed(From=None), 21603),
        (changed(From=None, MessagingServiceSid=SERVICE), 201),
        (changed(Body="x" * 1600), 201),
        (changed(Body="x" * 1601), 21617),
        (changed(Body="😀" * 801), 21617),
        (changed(Body=None, MediaUrl="https://example.com/a.png"), 201),
        (changed(Body=None, ContentSid="HX" + "0c" * 16), 201),
        (changed(To="5551234567"), 21211),
        (changed(To="+1555"), 21211),
        (changed(To="+1555123456789012"), 21211),
        (changed(To="+05551234567"), 21211),
        (changed(To="+1 (555) 123-4567"), 21211),
        (changed(To="somebody"), 21211),
        (changed(To="whatsapp:+15551234567"), 201),
        (changed(From="12345"), 201),
        (changed(From="Shop & Co"), 201),
        (changed(From="1"), 21212),
        (changed(From="a far too long sender"), 21212),
        (changed(From="!"), 21212),
        (changed(MessagingServiceSid="MG1"), 21701),
        (changed(StatusCallback="ftp://example.com/"), 21609),
        (changed(StatusCallback="nonsense"), 21609),
        (changed(StatusCallback="http://127.0.0.1:1/" + "x" * 4000), 21609),
        (changed(MessagingServiceSid=SERVICE, ScheduleType="fixed"), 35114),
        (changed(MessagingServiceSid=SERVICE, ScheduleType="fixed", SendAt="soon"), 35114),
        (changed(MessagingServiceSid=SERVICE, ScheduleType="fixed", SendAt="2020-01-01T00:00:00Z"), 35114),
        (changed(MessagingServiceSid=SERVICE, ScheduleType="fixed", SendAt="2999-01-01T00:00:00Z"), 35114),
        ({}, 21604),
        (b"\xff\xfe=%zz&&&;;To", 21604),
        (b'{"To": "+15551234567", "From": "+15005550006", "Body": "hello"}', 21604),
    ],
)
async def test_create_is_checked(session, form, code):
    assert await create(session, form) == code


@pytest.mark.parametrize(("number", "code"), MAGIC_TO.items())
async def test_magic_recipients(session, number, code):
    assert await create(session, changed(To=number)) == code


@pytest.mark.parametrize(("number", "code"), [*MAGIC_FROM.items(), ("+15005550006", 201)])
async def test_magic_senders(session, number, code):
    assert await create(session, changed(From=number)) == code


async def test_queue_overflow_is_a_429(session):
    async with session.post(f"{BASE}/Messages.json", data=changed(From="+15005550008")) as response:
        assert await error_of(response, 429) == 21611


@pytest.mark.parametrize(
    "authorization",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Basic Zm9v",
        "Bearer x",
        aiohttp.encode_basic_auth(SID, "wrong"),
        aiohttp.encode_basic_auth("AC" + "0f" * 16, TOKEN),
    ],
)
async def test_wrong_credentials(url, authorization):
    headers = {} if authorization is None else {"Authorization": authorization}
    async with (
        aiohttp.ClientSession(url, headers=headers) as session,
        session.post(f"{BASE}/Messages.json", data=GOOD) as response,
    ):
        assert await error_of(response, 401) == 20003
        assert response.headers["WWW-Authenticate"].startswith("Basic ")


async def test_credentials_may_be_spelt_differently(url):
    authorization = aiohttp.encode_basic_auth(SID, TOKEN).replace("Basic ", "basic  ")
    async with aiohttp.ClientSession(url, headers={"Authorization": authorization}) as session:
        assert await create(session, GOOD) == 201


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", f"{BASE}/Messages/SM{'0' * 32}.json", 404, 20404),
        ("POST", f"{BASE}/Messages/SM{'0' * 32}.json", 404, 20404),
        ("DELETE", f"{BASE}/Messages/nonsense.json", 404, 20404),
        ("GET", f"/2010-04-01/Accounts/AC{'0' * 32}/Messages.json", 404, 20404),
        ("POST", f"/2010-04-01/Accounts/AC{'0' * 32}/Messages.json", 404, 20404),
        ("GET", f"{BASE}/Calls.json", 404, 20404),
        ("GET", "/", 404, 20404),
        ("PUT", f"{BASE}/Messages.json", 405, 20004),
        ("DELETE", f"{BASE}/Messages.json", 405, 20004),
    ],
)
async def test_unknown_resources_and_methods(session, method, path, status, code):
    async with session.request(method, path) as response:
        assert await error_of(response, status) == code


async def test_refused_updates(session):
    async with session.post(f"{BASE}/Messages.json", data=GOOD) as response:
        path = f"{BASE}/Messages/{(await response.json())['sid']}.json"
    for form, code in (
        ({"Body": "other"}, 20001),
        ({"Status": "sent"}, 20001),
        ({"Status": "canceled"}, 30409),
    ):
        async with session.post(path, data=form) as response:
            assert await error_of(response, 400) == code


async def test_oversized_request_is_refused(session):
    async with session.post(f"{BASE}/Messages.json", data=io.BytesIO(b"x" * 9_000_000)) as response:
        assert response.status == 413


async def test_refused_creates_are_not_recorded(session):
    assert await create(session, changed(To="+15005550001")) == 21211
    async with session.get("/_control/messages") as response:
        assert await response.json() == {"total": 0, "messages": [], "next_after": None}
    async with session.get("/_control/requests") as response:
        counts = await response.json()
    assert counts["by_outcome"] == {"refused.21211": 1}
    assert counts["by_status"] == {"400": 1}
