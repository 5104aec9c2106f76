"""What the listener answers providers and recipients, and what it takes in of what they say."""

import asyncio

import pytest
from public_requests import bounce_headers
from public_site import KEY, OTHER_TOKEN, SID, Site, inbound_fields, running_site, status_fields

from pipeline.errors import StorageUnavailableError
from pipeline.notifications.callbacks.replays import Replays


def counted(site: Site, kind: str, outcome: str) -> float:
    return site.metrics.callbacks.labels(kind, outcome)._value.get()


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


@pytest.mark.parametrize("method", ["DELETE", "HEAD", "OPTIONS", "PATCH", "PROPFIND", "PUT", "TRACE"])
async def test_a_method_of_no_route_is_told_which_ones_a_path_has(method: str) -> None:
    async with running_site() as site:
        for path, allow in ((f"/unsubscribe/{site.token}", "GET, POST"), ("/twilio/inbound", "POST")):
            reply = await site.request(method, path)
            assert (reply.status, reply.headers["allow"]) == (405, allow)
