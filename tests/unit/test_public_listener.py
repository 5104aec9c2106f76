"""The listener under bad clients and bad weather: slow ones, too many, gone ones, a store that is away."""

import asyncio

import pytest
from public_requests import bounce_headers
from public_site import KEY, OTHER_TOKEN, SID, Site, inbound_fields, parse_reply, running_site, status_fields

from pipeline.errors import StorageUnavailableError
from pipeline.notifications.callbacks.replays import Replays

HEAD = b"POST /twilio/inbound HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded\r\n"


async def connect(site: Site) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection("127.0.0.1", site.port)


def counted(site: Site, kind: str, outcome: str) -> float:
    return site.metrics.callbacks.labels(kind, outcome)._value.get()


# --- slow, many, gone ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sent",
    [
        b"POST /twilio/inbound HTTP/1.1\r\nHost: x\r\n",
        b"POST",
        HEAD + b"Content-Length: 10\r\n\r\nabc",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ],
    ids=["head", "line", "body", "chunks"],
)
async def test_who_does_not_finish_a_request_is_answered_408(sent: bytes) -> None:
    async with running_site(request_timeout_s=0.2, idle_timeout_s=60) as site:
        assert parse_reply(await site.raw(sent)).status == 408


@pytest.mark.parametrize("part", ["head", "body"])
async def test_a_byte_now_and_then_does_not_prolong_it(part: str) -> None:
    async with running_site(request_timeout_s=0.3, idle_timeout_s=60) as site:
        reader, writer = await connect(site)
        writer.write(HEAD if part == "head" else HEAD + b"Content-Length: 1000\r\n\r\n")
        async with asyncio.timeout(5):
            answer = asyncio.ensure_future(reader.read())
            while not answer.done():
                writer.write(b"X-A: b\r\n" if part == "head" else b"x")
                await asyncio.wait([answer], timeout=0.05)
        assert parse_reply(answer.result()).status == 408
        writer.close()


async def test_who_says_nothing_is_closed() -> None:
    async with running_site(idle_timeout_s=1) as site:
        assert await site.raw(timeout_s=5) == b""
        assert counted(site, "connection", "refused") == 0


async def test_a_head_without_end_is_cut_off() -> None:
    async with running_site(head_bytes_max=16_384) as site:
        reader, writer = await connect(site)
        ended = asyncio.ensure_future(reader.read())
        writer.write(b"GET / HTTP/1.1\r\nX-Endless: ")
        sent = 0
        while not ended.done() and sent < 1_000_000:
            writer.write(b"x" * 8192)
            sent += 8192
            await asyncio.wait([ended], timeout=0.02)
        assert sent < 1_000_000
        await asyncio.wait([ended])
        if ended.exception() is None:  # else it was reset before its answer was read
            assert parse_reply(ended.result()).status == 431
        assert counted(site, "connection", "refused") == 1
        writer.close()


async def test_an_answer_before_the_end_of_the_body_stays_the_only_one() -> None:
    async with running_site(request_timeout_s=0.2, idle_timeout_s=60) as site:
        answers = await site.raw(b"POST /nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc")
        assert answers.count(b"HTTP/1.1") == 1
        assert parse_reply(answers).status == 404


async def test_more_connections_than_allowed_are_closed() -> None:
    async with running_site(connections_max=3) as site:
        kept = [await connect(site) for _ in range(3)]
        for one in kept:  # until the three are known to the server
            assert (await ask_on(*one)).startswith(b"HTTP/1.1 404")
        assert not await is_served(site)
        assert counted(site, "connection", "too_many_connections") == 1
        kept[0][1].close()
        async with asyncio.timeout(5):
            while not await is_served(site):  # the server hears of it a moment later
                pass
        for _, writer in kept[1:]:
            writer.close()


async def ask_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]))
    return head


async def is_served(site: Site) -> bool:
    try:
        return (await site.raw(b"GET /x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 404"
        )
    except ConnectionError:
        return False


async def test_more_requests_than_allowed_are_answered_503() -> None:
    async with running_site(requests_max=2) as site:
        site.taken.go.clear()
        waiting = []
        for _ in range(2):
            site.taken.arrived.clear()
            waiting.append(asyncio.ensure_future(site.status_callback()))
            await site.taken.arrived.wait()
        refused = await site.status_callback()
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        assert counted(site, "status", "unavailable") == 1
        site.taken.go.set()
        assert [(await one).status for one in waiting] == [204, 204]
        assert (await site.status_callback()).status == 204


async def test_who_leaves_early_does_no_harm() -> None:
    async with running_site() as site:
        for cut in (10, 60, 120, 200):
            _, writer = await connect(site)
            writer.write((HEAD + b"Content-Length: 500\r\n\r\n" + b"a" * 400)[:cut])
            await writer.drain()
            writer.transport.abort()
        assert (await site.status_callback()).status == 204


async def test_who_leaves_before_the_answer_is_taken_in_all_the_same() -> None:
    async with running_site() as site:
        site.taken.go.clear()
        calling = asyncio.ensure_future(site.status_callback())
        await site.taken.arrived.wait()
        calling.cancel()
        await asyncio.wait([calling])
        site.taken.go.set()
        assert (await site.status_callback(MessageStatus="delivered")).status == 204
        assert [word.status for word in site.taken.words] == ["sent", "delivered"]


async def test_a_thousand_requests_at_once_on_one_connection_are_not_queued_up() -> None:
    async with running_site() as site:
        try:
            answers = await site.raw(b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" * 1000)
        except ConnectionError:
            answers = b""
        assert answers.count(b"HTTP/1.1 404") <= 20
        assert (await site.status_callback()).status == 204


async def test_requests_one_after_the_other_are_answered_in_order() -> None:
    async with running_site() as site:
        sent = b"GET /x HTTP/1.1\r\nHost: x\r\n\r\n" + b"GET /x/ HTTP/1.1\r\nHost: x\r\n\r\n" * 2
        last = f"GET /unsubscribe/{site.token} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        answers = (await site.raw(sent + last)).split(b"HTTP/1.1 ")[1:]
        assert [answer[:3] for answer in answers] == [b"404", b"404", b"404", b"200"]


# --- what it says to providers ------------------------------------------------------------------------------


async def test_while_the_store_is_away_the_provider_is_told_to_come_again() -> None:
    async with running_site() as site:
        site.taken.failure = StorageUnavailableError("shard0 primary is away")
        assert (await site.status_callback()).status == 503
        reply = await site.form("/twilio/inbound", inbound_fields())
        assert (reply.status, reply.headers["content-type"]) == (503, "text/xml; charset=utf-8")
        assert reply.body.endswith(b"<Response/>")
        one_click = {"Content-Type": "application/x-www-form-urlencoded"}
        path = f"/unsubscribe/{site.token}"
        assert (await site.request("POST", path, one_click, b"List-Unsubscribe=One-Click")).status == 503
        site.taken.failure = None
        assert (await site.status_callback()).status == 204
        assert (await site.form("/twilio/inbound", inbound_fields())).status == 200
        assert site.taken.recipients == [("sms", "+14155550123", "out", "stop")]


async def test_a_store_that_hangs_is_answered_for_in_time() -> None:
    async with running_site(answer_timeout_s=0.1) as site:
        site.taken.go.clear()
        assert (await site.status_callback()).status == 503


async def test_a_defect_says_nothing_of_itself() -> None:
    async with running_site() as site:
        site.taken.failure = ValueError("+14155550123")
        reply = await site.status_callback()
        assert reply.status == 500
        assert reply.body == b'{"type":"about:blank","title":"Internal Server Error","status":500}'


async def test_a_text_that_comes_twice_counts_once_and_a_failed_one_again() -> None:
    async with running_site() as site:
        site.taken.failure = StorageUnavailableError("away")
        await site.form("/twilio/inbound", inbound_fields())
        site.taken.failure = None
        other = "SM" + "f" * 32
        for fields in (
            inbound_fields(),
            inbound_fields(Body="START", MessageSid=other),
            inbound_fields(),  # would take the number off again
            inbound_fields(Body="START", MessageSid=other),
        ):
            assert (await site.form("/twilio/inbound", fields)).status == 200
        assert [state for _, _, state, _ in site.taken.recipients] == ["out", "in"]


async def test_help_is_answered_with_the_settings_text_as_text() -> None:
    async with running_site() as site:
        reply = await site.form("/twilio/inbound", inbound_fields(Body="Help"))
        assert b"<Message>Ask &lt;us&gt; &amp; we&#x27;ll help.</Message>" in reply.body
        assert site.taken.recipients == []


async def test_a_recipient_who_opted_out_with_the_carrier_is_taken_off() -> None:
    async with running_site() as site:
        reply = await site.status_callback(MessageStatus="undelivered", ErrorCode="21610")
        assert reply.status == 204
        assert site.taken.recipients == [("sms", "+14155550123", "out", "provider:21610")]
        assert [(word.status, word.error_code) for word in site.taken.words] == [("undelivered", "21610")]


async def test_the_second_token_counts_for_texts_too() -> None:
    async with running_site() as site:
        assert (await site.form("/twilio/inbound", inbound_fields(), token=OTHER_TOKEN)).status == 200
        assert (await site.form("/twilio/inbound", inbound_fields(), token="x")).status == 403


async def test_looking_at_the_page_changes_nothing_and_the_click_does() -> None:
    async with running_site() as site:
        path = f"/unsubscribe/{site.token}"
        shown = await site.request("GET", path, {"Accept-Language": "de"})
        assert (shown.status, shown.headers["content-language"]) == (200, "de")
        assert "form-action 'self'" in shown.headers["content-security-policy"]
        assert site.taken.unsubscribed == []
        clicked = await site.request(
            "POST", path, {"Content-Type": "application/x-www-form-urlencoded"}, b"List-Unsubscribe=One-Click"
        )
        assert clicked.status == 200
        assert site.taken.unsubscribed == [KEY]
        assert "example" not in path


async def test_a_bounce_is_taken_once_and_its_id_not_for_another() -> None:
    async with running_site() as site:
        for body, status in ((b"a", 204), (b"a", 204), (b"b", 409)):
            headers = [("Content-Type", "message/rfc822"), *bounce_headers(body)]
            assert (await site.request("POST", "/mail/bounces", headers, body)).status == status
        assert site.taken.bounces == [b"a"]


async def test_a_bounce_may_be_larger_than_other_requests_but_not_without_end() -> None:
    async with running_site(body_bytes_max=1000, bounce_bytes_max=100_000) as site:
        for size, status in ((99_000, 204), (101_000, 413)):
            body = b"x" * size
            headers = [("Content-Type", "message/rfc822"), *bounce_headers(body, webhook_id=f"msg_{size}")]
            assert (await site.request("POST", "/mail/bounces", headers, body)).status == status
        assert (await site.status_callback(Extra="x" * 1000)).status == 413


async def test_a_flood_of_forged_callbacks_reaches_nothing() -> None:
    async with running_site() as site:
        answers = await asyncio.gather(
            *(site.form(f"/twilio/status/{site.seal}", status_fields(), token="wrong") for _ in range(200))
        )
        assert {answer.status for answer in answers} == {403}
        assert site.taken.words == []
        assert counted(site, "status", "not_genuine") == 200


# --- ending -------------------------------------------------------------------------------------------------


async def test_a_drain_answers_what_is_under_way_and_takes_nothing_new() -> None:
    async with running_site() as site:
        site.taken.go.clear()
        idle_reader, idle_writer = await connect(site)
        await ask_on(idle_reader, idle_writer)
        calling = asyncio.ensure_future(site.status_callback())
        await site.taken.arrived.wait()
        draining = asyncio.ensure_future(site.listener.drain())
        async with asyncio.timeout(5):
            assert await idle_reader.read() == b""  # an idle connection is closed at once
        with pytest.raises(ConnectionError):
            await site.status_callback()
        assert not draining.done()
        site.taken.go.set()
        assert (await calling).status == 204
        await asyncio.wait_for(draining, 5)
        idle_writer.close()


class Clock:
    """A clock that is turned by hand."""

    def __init__(self) -> None:
        self.at_s = 0.0

    def monotonic(self) -> float:
        return self.at_s


def test_what_came_before_is_forgotten_by_time_and_by_number() -> None:
    clock = Clock()
    replays = Replays(clock, kept_max=3, kept_s=10)
    for identity in (SID, "b", "c", "d"):
        replays.keep(identity, b"x")
    assert [replays.find(identity) for identity in (SID, "b", "c", "d")] == [None, b"x", b"x", b"x"]
    clock.at_s = 10.0
    assert replays.find("d") is None
