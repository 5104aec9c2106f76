"""The control API, the journal, and the emulator as a program."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time

import aiohttp
import pytest

from stack.twilio import message_journal
from stack.twilio.emulator import emulating, read_arguments

SID, TOKEN = "AC" + "0a" * 16, "a token"
MESSAGES = f"/2010-04-01/Accounts/{SID}/Messages.json"
TO, SENDER = "+15551234567", "+15005550006"
ARGUMENTS = ["--port", "0", "--account-sid", SID, "--auth-token", TOKEN]
HEADERS = {"Authorization": aiohttp.encode_basic_auth(SID, TOKEN)}


@pytest.fixture
async def session():
    async with (
        emulating(read_arguments(ARGUMENTS)) as ready,
        aiohttp.ClientSession(ready.removeprefix("ready "), headers=HEADERS) as session,
    ):
        yield session


async def create(session, to=TO, body="hello", **fields):
    form = {"To": to, "From": SENDER, "Body": body} | fields
    async with session.post(MESSAGES, data=form) as response:
        assert response.status == 201, await response.text()
        return await response.json()


async def ask(session, method, path, **options):
    async with session.request(method, f"/_control/{path}", **options) as response:
        return response.status, await response.json()


async def get(session, path, **params):
    status, body = await ask(session, "GET", path, params=params)
    assert status == 200, body
    return body


async def test_health(session):
    await create(session)
    health = await get(session, "health")
    assert health.pop("uptime_s") >= 0
    assert health == {
        "status": "ok",
        "program": "twilio_emulator",
        "total": 1,
        "kept": 1,
        "kept_max": 2_000_000,
        "evicted": 0,
        "duplicates": 0,
    }


async def test_messages_in_order_with_filters_and_pages(session):
    sids = [(await create(session, to=f"+1555000000{n % 2}", body=f"{n}"))["sid"] for n in range(5)]
    everything = await get(session, "messages")
    assert everything["total"] == 5
    assert everything["next_after"] is None
    assert [(message["number"], message["sid"]) for message in everything["messages"]] == [
        *enumerate(sids, start=1)
    ]
    first = everything["messages"][0]
    assert {
        "to": "+15550000000",
        "from": SENDER,
        "body": "0",
        "direction": "outbound-api",
    }.items() <= first.items()
    page = await get(session, "messages", limit=2)
    assert ([m["body"] for m in page["messages"]], page["next_after"]) == (["0", "1"], 2)
    page = await get(session, "messages", limit=3, after=2)
    assert ([m["body"] for m in page["messages"]], page["next_after"]) == (["2", "3", "4"], None)
    only = await get(session, "messages", to="+15550000001")
    assert [m["body"] for m in only["messages"]] == ["1", "3"]
    assert (await get(session, "messages", **{"from": "+1777"}))["messages"] == []
    since = everything["messages"][3]["created_at"]
    assert [m["body"] for m in (await get(session, "messages", since=since))["messages"]][-2:] == ["3", "4"]
    assert (await get(session, "messages", since=time.time() + 60))["messages"] == []


async def test_requests_are_counted(session):
    await create(session)
    await create(session)
    await create(session, body="other")
    async with session.get(MESSAGES) as response:
        assert response.status == 200
    async with session.post(MESSAGES, data={}) as response:
        assert response.status == 400
    async with session.get(MESSAGES, headers={"Authorization": "Basic x"}) as response:
        assert response.status == 401
    counts = await get(session, "requests")
    assert counts["total"] == 6
    assert counts["by_route"] == {"create": 4, "list": 1, "unknown": 1}
    assert counts["by_status"] == {"201": 3, "200": 1, "400": 1, "401": 1}
    assert counts["by_outcome"] == {"created": 3, "listed": 1, "refused.21604": 1, "refused.20003": 1}
    assert counts["messages"]["duplicates"] == 1
    assert counts["first_duplicates"] == [{"number": 2, "duplicate_of": 1}]


async def test_wait(session):
    waiting = asyncio.create_task(get(session, "wait", messages=2, timeout_s=5))
    await create(session)
    assert not waiting.done()
    await create(session)
    assert (await waiting)["reached"] is True
    assert await get(session, "wait", messages=3, timeout_s=0.01) == {
        "reached": False,
        "messages": 2,
        "callbacks": 0,
    }


async def test_reset(session):
    sid = (await create(session))["sid"]
    await ask(session, "PUT", "behaviour", json={"latency_ms": 1})
    assert await ask(session, "POST", "reset") == (200, {"reset": True})
    assert (await get(session, "messages"))["total"] == 0
    assert (await get(session, "requests"))["total"] == 0
    assert await get(session, "behaviour") == {}
    async with session.get(MESSAGES.replace(".json", f"/{sid}.json")) as response:
        assert response.status == 404
    assert (await create(session))["sid"] != sid


async def test_behaviour_is_given_back_as_put(session):
    behaviour = {
        "seed": 7,
        "latency_ms": {"p50": 1.0, "p99": 2.0},
        "rate_limit": {"per_s": 100.0},
        "delivery": {"status": "undelivered", "error_code": 30003},
        "faults": [{"on": "create", "action": "status", "from": SENDER, "rate": 0.5, "count": 3}],
    }
    assert await ask(session, "PUT", "behaviour", json=behaviour) == (200, behaviour)
    assert await get(session, "behaviour") == behaviour
    (fault,) = (await get(session, "faults"))["faults"]
    assert fault == {"rule": behaviour["faults"][0], "seen": 0, "fired": 0, "remaining": 3}


@pytest.mark.parametrize(
    "behaviour",
    [
        {"latency": 1},
        {"latency_ms": -1},
        {"latency_ms": {"min": 1}},
        {"latency_ms": {"min": 2, "max": 1}},
        {"latency_ms": {"min": 1, "max": 2, "p50": 1, "p99": 2}},
        {"latency_ms": {"p50": 0, "p99": 2}},
        {"latency_ms": 1e12},
        {"rate_limit": {"per_s": 0}},
        {"inbound_url": "file:///etc/passwd"},
        {"faults": [{"on": "create"}]},
        {"faults": [{"on": "nowhere", "action": "status"}]},
        {"faults": [{"on": "create", "action": "explode"}]},
        {"faults": [{"on": "create", "action": "outcome"}]},
        {"faults": [{"on": "delivery", "action": "status"}]},
        {"faults": [{"on": "callback", "action": "status"}]},
        {"faults": [{"on": "create", "action": "status", "rate": 2}]},
        {"faults": [{"on": "create", "action": "status", "count": 0}]},
        {"faults": [{"on": "create", "action": "status", "retry_after": "1\r\nX: y"}]},
        {"faults": [{"on": "create", "action": "pass"}] * 10_001},
        [],
    ],
)
async def test_wrong_behaviour_is_refused_and_changes_nothing(session, behaviour):
    await ask(session, "PUT", "behaviour", json={"seed": 7})
    status, body = await ask(session, "PUT", "behaviour", json=behaviour)
    assert (status, list(body)) == (400, ["error"])
    assert await get(session, "behaviour") == {"seed": 7}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "nothing", 404),
        ("POST", "health", 405),
        ("PUT", "reset", 405),
        ("GET", "messages?limit=0", 400),
        ("GET", "messages?unknown=1", 400),
        ("GET", "wait?timeout_s=100000", 400),
        ("POST", "inbound", 400),
    ],
)
async def test_wrong_control_requests(session, method, path, status):
    answered, body = await ask(session, method, path)
    assert (answered, list(body)) == (status, ["error"])


async def test_eviction_is_counted():
    async with (
        emulating(read_arguments([*ARGUMENTS, "--messages-max", "3"])) as ready,
        aiohttp.ClientSession(ready.removeprefix("ready "), headers=HEADERS) as session,
    ):
        for number in range(5):
            await create(session, body=f"{number}")
        counts = (await get(session, "requests"))["messages"]
        assert (counts["total"], counts["kept"], counts["evicted"]) == (5, 3, 2)
        assert [m["body"] for m in (await get(session, "messages"))["messages"]] == ["2", "3", "4"]
        async with session.get(MESSAGES, params={"To": TO}) as response:
            assert [m["body"] for m in (await response.json())["messages"]] == ["4", "3", "2"]


# --- the journal -----------------------------------------------------------------------------------


@pytest.fixture
def restarted(tmp_path):
    """Start the emulator on the same data directory each time."""

    def start(*arguments):
        return emulating(read_arguments([*ARGUMENTS, "--data-dir", str(tmp_path / "data"), *arguments]))

    return start


async def listed(session):
    async with session.get(MESSAGES) as response:
        return [(m["sid"], m["body"], m["status"]) for m in (await response.json())["messages"]]


async def test_restart_forgets_nothing(restarted):
    async with restarted() as ready, aiohttp.ClientSession(ready[6:], headers=HEADERS) as session:
        await ask(session, "PUT", "behaviour", json={"delivery": {"delay_ms": 0}})
        sids = [(await create(session, body=body))["sid"] for body in ("a", "b", "c", "a")]
        path = MESSAGES.replace(".json", "/{}.json")
        async with session.post(path.format(sids[1]), data={"Body": ""}) as response:
            assert response.status == 200
        async with session.delete(path.format(sids[2])) as response:
            assert response.status == 204
        await ask(session, "POST", "inbound", json={"From": "+15550000009", "To": SENDER, "Body": "STOP"})
        before, counts = await listed(session), await get(session, "requests")
    async with restarted() as ready, aiohttp.ClientSession(ready[6:], headers=HEADERS) as session:
        assert await listed(session) == before
        assert (await get(session, "requests"))["messages"] == counts["messages"]
        form = {"To": "+15550000009", "From": SENDER, "Body": "hello"}
        async with session.post(MESSAGES, data=form) as response:
            assert (await response.json())["code"] == 21610
        assert (await create(session))["sid"] not in sids
        await ask(session, "POST", "reset")
    async with restarted() as ready, aiohttp.ClientSession(ready[6:], headers=HEADERS) as session:
        assert await listed(session) == []


async def test_torn_line_is_left_out(restarted, tmp_path):
    async with restarted() as ready, aiohttp.ClientSession(ready[6:], headers=HEADERS) as session:
        await create(session, body="a")
    (segment,) = (tmp_path / "data").iterdir()
    segment.write_bytes(segment.read_bytes() + b'{"type":"accepted","message":{"to":"+1')
    async with restarted() as ready, aiohttp.ClientSession(ready[6:], headers=HEADERS) as session:
        await create(session, body="b")
    async with restarted() as ready, aiohttp.ClientSession(ready[6:], headers=HEADERS) as session:
        assert [body for _, body, _ in await listed(session)] == ["b", "a"]


async def test_old_segments_are_deleted(restarted, tmp_path, monkeypatch):
    monkeypatch.setattr(message_journal, "SEGMENT_LINES_MAX", 4)
    async with (
        restarted("--messages-max", "5") as ready,
        aiohttp.ClientSession(ready[6:], headers=HEADERS) as session,
    ):
        await ask(session, "POST", "inbound", json={"From": "+15550000009", "To": SENDER, "Body": "STOP"})
        for number in range(20):
            await create(session, body=f"{number}")
        before = [message[:2] for message in await listed(session)]  # its status goes on with time
        assert len(list((tmp_path / "data").iterdir())) <= 3
    async with (
        restarted("--messages-max", "5") as ready,
        aiohttp.ClientSession(ready[6:], headers=HEADERS) as session,
    ):
        assert [message[:2] for message in await listed(session)] == before
        assert (await get(session, "requests"))["opted_out"] == 1


# --- the program -----------------------------------------------------------------------------------


def start(*arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-m", "stack.twilio.emulator", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={"PATH": os.environ["PATH"], **environment},
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_program_takes_its_secrets_from_the_environment_and_stops_on_a_signal(number):
    with start("--port", "0", TWILIO_ACCOUNT_SID=SID, TWILIO_AUTH_TOKEN=TOKEN) as program:
        assert program.stdout.readline().startswith("ready http://127.0.0.1:")
        program.send_signal(number)
        assert program.communicate(timeout=2) == ("", "")
        assert program.returncode == 0


async def test_program_stops_while_a_request_hangs():
    with start(*ARGUMENTS) as program:
        url = program.stdout.readline().split()[1]
        async with aiohttp.ClientSession(url, headers=HEADERS) as session:
            rule = {"on": "create", "action": "hang", "hang_ms": 60_000}
            await ask(session, "PUT", "behaviour", json={"faults": [rule]})
            hanging = asyncio.create_task(create(session))
            assert (await get(session, "wait", messages=1))["reached"]
            program.terminate()
            assert await asyncio.to_thread(program.communicate, timeout=2) == ("", "")
            with pytest.raises(aiohttp.ClientError):
                await hanging
        assert program.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--account-sid", "AC1", "--auth-token", TOKEN], "TWILIO_ACCOUNT_SID"),
        (["--account-sid", SID], "TWILIO_AUTH_TOKEN"),
        ([*ARGUMENTS[2:], "--messages-max", "0"], "--messages-max"),
        ([*ARGUMENTS[2:], "--data-dir", "/dev/null/data"], "/dev/null/data"),
    ],
)
def test_wrong_options_are_one_line_on_stderr(arguments, words):
    with start("--port", "0", *arguments) as program:
        out, error = program.communicate(timeout=10)
    assert (program.returncode, out, error.count("\n")) == (1, "", 1)
    assert words in error


def test_taken_port_is_one_line_on_stderr():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        with start("--port", port, *ARGUMENTS[2:]) as program:
            out, error = program.communicate(timeout=10)
    assert (program.returncode, out) == (1, "")
    assert error == f"twilio_emulator: cannot listen on 127.0.0.1:{port}: Address already in use\n"
