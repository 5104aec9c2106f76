"""Faults on request: each action, and which request they hit."""

import asyncio
import contextlib
import json

import aiohttp
import pytest

from stack.standin.program import in_thread
from stack.twilio.emulator import emulating, read_arguments

SID, TOKEN = "AC" + "0a" * 16, "a token"
MESSAGES = f"/2010-04-01/Accounts/{SID}/Messages.json"
TO = "+15551234567"


@pytest.fixture
async def url():
    arguments = ["--port", "0", "--account-sid", SID, "--auth-token", TOKEN]
    async with in_thread(emulating(read_arguments(arguments))) as ready:
        yield ready.removeprefix("ready ")


@pytest.fixture
async def session(url):
    authorization = aiohttp.encode_basic_auth(SID, TOKEN)
    # One connection per request, so that a fault on one leaves the next alone.
    connector = aiohttp.TCPConnector(force_close=True)
    headers = {"Authorization": authorization}
    async with aiohttp.ClientSession(url, headers=headers, connector=connector) as session:
        yield session


async def behave(session, *faults, **behaviour):
    async with session.put("/_control/behaviour", json=behaviour | {"faults": faults}) as response:
        assert response.status == 200, await response.text()


def create(session, to=TO, body="hello", **options):
    form = {"To": to, "From": "+15005550006", "Body": body}
    return session.post(MESSAGES, data=form, allow_redirects=False, **options)


async def status_of(session, **options):
    async with create(session, **options) as response:
        return response.status


async def body_of(session):
    async with create(session) as response:
        assert response.status == 201
        return await response.read()


async def control(session, path):
    async with session.get(f"/_control/{path}") as response:
        return await response.json()


async def recorded(session):
    return (await control(session, "messages"))["total"]


async def test_status_with_retry_after_verbatim(session):
    rule = {"on": "create", "action": "status", "status": 429, "retry_after": "soon; perhaps -1", "count": 1}
    await behave(session, rule)
    async with create(session) as response:
        assert response.status == 429
        assert response.headers["Retry-After"] == "soon; perhaps -1"
        assert (await response.json())["code"] == 20429
    assert await status_of(session) == 201
    assert await recorded(session) == 1


@pytest.mark.parametrize(("status", "code"), [(500, 20500), (503, 20503), (502, 20001), (401, 20003)])
async def test_status_has_a_matching_code(session, status, code):
    await behave(session, {"on": "create", "action": "status", "status": status})
    async with create(session) as response:
        assert (response.status, (await response.json())["code"]) == (status, code)
    assert await recorded(session) == 0


async def test_status_with_a_body_and_headers_of_its_own(session):
    headers = {"Content-Type": "text/plain", "X-Odd": "1"}
    await behave(
        session,
        {"on": "create", "action": "status", "status": 200, "body": "{no json", "headers": headers},
    )
    async with create(session) as response:
        assert (response.status, await response.text()) == (200, "{no json")
        assert (response.content_type, response.headers["X-Odd"]) == ("text/plain", "1")


async def test_status_can_hide_an_accepted_message(session):
    await behave(session, {"on": "create", "action": "status", "status": 500, "accept": True})
    assert await status_of(session) == 500
    assert await recorded(session) == 1


async def test_accept_then_drop_records(session):
    await behave(session, {"on": "create", "action": "accept_then_drop"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await status_of(session)
    assert await recorded(session) == 1


async def test_drop_before_does_not_record(session):
    await behave(session, {"on": "create", "action": "drop_before"})
    with pytest.raises(aiohttp.ServerDisconnectedError):
        await status_of(session)
    assert await recorded(session) == 0


async def test_hang_records_and_outlasts_the_client(session):
    await behave(session, {"on": "create", "action": "hang", "hang_ms": 60_000})
    with pytest.raises(TimeoutError):
        await status_of(session, timeout=aiohttp.ClientTimeout(total=0.2))
    assert await recorded(session) == 1


async def test_hang_replies_in_the_end(session):
    await behave(session, {"on": "create", "action": "hang", "hang_ms": 1})
    assert await status_of(session) == 201


async def test_not_json(session):
    await behave(session, {"on": "create", "action": "not_json"})
    async with create(session) as response:
        assert (response.status, response.content_type) == (200, "text/html")
        with pytest.raises(json.JSONDecodeError):
            json.loads(await response.text())
    assert await recorded(session) == 1


async def test_no_sid_foreign_sid_duplicate_sid(session):
    actions = ("pass", "no_sid", "foreign_sid", "duplicate_sid")
    await behave(session, *({"on": "create", "action": action, "count": 1} for action in actions))
    replies = []
    for _ in actions:
        async with create(session) as response:
            assert response.status == 201
            replies.append(await response.json())
    sids = [message["sid"] for message in (await control(session, "messages"))["messages"]]
    assert replies[0]["sid"] == sids[0]
    assert "sid" not in replies[1]
    assert replies[2]["sid"] == "message-1"
    assert replies[3]["sid"] == sids[2]


async def test_redirect(session):
    rule = {"on": "create", "action": "redirect", "headers": {"Location": "http://127.0.0.1:9/"}}
    await behave(session, rule)
    async with create(session) as response:
        assert (response.status, response.headers["Location"]) == (302, "http://127.0.0.1:9/")
    assert await recorded(session) == 0


async def test_slow_body(session):
    await behave(session, {"on": "create", "action": "slow_body", "hang_ms": 60_000, "count": 1})
    async with create(session, timeout=aiohttp.ClientTimeout(total=0.5)) as response:
        assert response.status == 201
        with pytest.raises(TimeoutError):
            await response.read()
    await behave(session, {"on": "create", "action": "slow_body", "hang_ms": 5})
    async with create(session) as response:
        assert (await response.json())["to"] == TO
    assert await recorded(session) == 2


async def test_truncated_body_and_bad_chunks(session):
    for action in ("truncated_body", "bad_chunks"):
        await behave(session, {"on": "create", "action": action})
        with pytest.raises(aiohttp.ClientError):
            await body_of(session)
    assert await recorded(session) == 2


async def test_huge_body(session):
    await behave(session, {"on": "create", "action": "huge_body", "size_bytes": 3_000_000})
    async with create(session) as response:
        assert response.status == 201
        assert len(await response.read()) >= 3_000_000


async def test_faults_on_other_requests(session):
    async with create(session) as response:
        path = (await response.json())["uri"]
    for stage, method, where in (("fetch", "GET", path), ("list", "GET", MESSAGES), ("update", "POST", path)):
        await behave(session, {"on": stage, "action": "status", "status": 503, "to": TO})
        options = {"params": {"To": TO}} if stage == "list" else {}
        async with session.request(method, where, **options) as response:
            assert response.status == 503
    await behave(session, {"on": "delete", "action": "accept_then_drop"}, delivery={"delay_ms": 0})
    async with create(session) as response:
        path = (await response.json())["uri"]
    with contextlib.suppress(aiohttp.ServerDisconnectedError):
        await session.delete(path)
    async with session.get(path) as response:
        assert response.status == 404


async def test_rules_are_tried_in_order_and_run_out(session):
    await behave(
        session,
        {"on": "create", "action": "status", "status": 500, "count": 2},
        {"on": "create", "action": "status", "status": 503, "to": TO, "count": 1},
        {"on": "create", "action": "status", "status": 502, "to_prefix": "+1777", "to_suffix": "9"},
    )
    assert [await status_of(session) for _ in range(4)] == [500, 500, 503, 201]
    assert await status_of(session, to="+17770000009") == 502
    assert await status_of(session, to="+17770000008") == 201
    faults = (await control(session, "faults"))["faults"]
    assert [(rule["seen"], rule["fired"], rule["remaining"]) for rule in faults] == [
        (6, 2, 0),
        (2, 1, 0),
        (1, 1, None),
    ]


async def test_skip_lets_the_first_requests_pass(session):
    await behave(session, {"on": "create", "action": "status", "skip": 2, "count": 1})
    assert [await status_of(session) for _ in range(4)] == [201, 201, 500, 201]


async def test_rates_are_repeatable(session):
    runs = []
    for seed in (1, 1, 2):
        await behave(session, {"on": "create", "action": "status", "rate": 0.3}, seed=seed)
        runs.append([await status_of(session) for _ in range(30)])
    assert runs[0] == runs[1] != runs[2]
    assert 0 < runs[0].count(500) < 30


@pytest.mark.parametrize("latency", [300, {"min": 300, "max": 310}, {"p50": 400, "p99": 500}])
async def test_latency(session, latency):
    await behave(session, latency_ms=latency)
    started = asyncio.get_running_loop().time()
    assert await status_of(session) == 201
    assert asyncio.get_running_loop().time() - started > 0.29


async def test_latency_of_one_rule(session):
    await behave(session, {"on": "create", "action": "pass", "latency_ms": 60_000, "to": TO})
    with pytest.raises(TimeoutError):
        await status_of(session, timeout=aiohttp.ClientTimeout(total=0.2))
    assert await status_of(session, to="+15550000000") == 201


async def test_rate_limit(session):
    await behave(session, rate_limit={"per_s": 0.001, "burst": 3, "retry_after": "7"})
    assert [await status_of(session) for _ in range(3)] == [201, 201, 201]
    async with create(session) as response:
        assert (response.status, response.headers["Retry-After"]) == (429, "7")
        assert (await response.json())["code"] == 20429
    counts = await control(session, "requests")
    assert counts["by_outcome"] == {"created": 3, "throttled": 1}


async def test_counts_tell_what_the_client_saw(session):
    await behave(
        session,
        {"on": "create", "action": "status", "status": 503, "count": 1},
        {"on": "create", "action": "accept_then_drop", "count": 1},
    )
    for _ in range(3):
        with contextlib.suppress(aiohttp.ServerDisconnectedError):
            await status_of(session)
    counts = await control(session, "requests")
    assert counts["by_status"] == {"503": 1, "closed": 1, "201": 1}
    assert counts["by_outcome"] == {"fault.status": 1, "fault.accept_then_drop": 1, "created": 1}
    assert counts["messages"]["duplicates"] == 1


async def test_thousands_of_exact_rules(session):
    numbers = [f"+1555{number:07d}" for number in range(5000)]
    rules = [{"on": "create", "action": "status", "code": 21610, "status": 400, "to": to} for to in numbers]
    await behave(session, *rules)
    async with create(session, to=numbers[-1]) as response:
        assert (response.status, (await response.json())["code"]) == (400, 21610)
    assert await status_of(session, to="+15559999999") == 201
