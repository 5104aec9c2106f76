"""What a vendor's webhook is answered: 2xx only for what is in a queue, nothing to whom did not sign it."""

import asyncio
import json
from typing import Any

import pytest
from public_site import BASE_URL, Site, running_site
from structlog.testing import capture_logs
from upstream_documents import sample, shopify_order, stripe_event
from vendor_posts import JSON, SHOPIFY_BEFORE, SQUARE_BEFORE, STRIPE_BEFORE, shopify, square, stripe

from pipeline.errors import BrokerUnavailableError, BusyError, PublishUnknownError, UnroutableError

URL = f"{BASE_URL}/webhooks/square"


async def post(site: Site, vendor: str, signed: tuple[dict[str, str], bytes]) -> Any:
    headers, body = signed
    return await site.request("POST", f"/webhooks/{vendor}", headers, body)


def event_types(site: Site) -> list[str]:
    return [event.event_type for event in site.taken.events]


async def test_genuine_webhooks_become_events() -> None:
    async with running_site() as site:
        assert (await post(site, "shopify", shopify())).status == 204
        assert (await post(site, "stripe", stripe())).status == 204
        assert (await post(site, "square", square(url=URL))).status == 204
        assert event_types(site) == ["order.processed", "invoice.generated", "invoice.generated"]
        assert json.loads(site.taken.events[0].body)["id"] == "w-1"


async def test_one_webhook_may_make_an_order_and_its_invoice() -> None:
    async with running_site() as site:
        assert (await post(site, "stripe", stripe(sample("stripe/invoice.paid.json")))).status == 204
        assert event_types(site) == ["order.processed", "invoice.generated"]


async def test_the_secret_before_still_counts() -> None:
    async with running_site() as site:
        assert (await post(site, "shopify", shopify(secret=SHOPIFY_BEFORE))).status == 204
        assert (await post(site, "stripe", stripe(secrets=(STRIPE_BEFORE,)))).status == 204
        assert (await post(site, "square", square(url=URL, secret=SQUARE_BEFORE))).status == 204


@pytest.mark.parametrize(
    ("vendor", "signed"),
    [
        ("shopify", shopify(secret="guessed")),
        ("shopify", (JSON, shopify()[1])),
        ("shopify", stripe()),
        ("stripe", stripe(secrets=("guessed",))),
        ("stripe", stripe(age_s=400)),
        ("stripe", shopify()),
        ("square", square(url="https://elsewhere.example/webhooks/square")),
        ("square", (square(url=URL)[0], b"{}")),
    ],
)
async def test_what_is_not_the_vendors_is_refused_and_changes_nothing(vendor: str, signed: Any) -> None:
    async with running_site() as site:
        reply = await post(site, vendor, signed)
        assert reply.status == 401
        assert reply.body == b'{"type":"about:blank","title":"Unauthorized","status":401}'
        assert site.taken.events == []


async def test_a_forged_one_is_not_read_so_its_answer_does_not_depend_on_it() -> None:
    async with running_site() as site:
        replies = {
            (await post(site, "shopify", shopify(body, secret="guessed"))).body
            for body in (b"", b"{", b"[]", b"{}", b"\xff")
        }
        assert len(replies) == 1


async def test_a_vendor_without_a_secret_is_not_there() -> None:
    async with running_site(webhooks={"stripe_secret": "", "stripe_secret_previous": ""}) as site:
        assert (await post(site, "stripe", stripe())).status == 404
        assert (await post(site, "magento", shopify())).status == 404
        assert (await post(site, "shopify", shopify())).status == 204


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "TRACE"])
async def test_only_post_does_anything(method: str) -> None:
    async with running_site() as site:
        reply = await site.request(method, "/webhooks/shopify", *shopify())
        assert reply.status in {204, 405}
        assert reply.status == 405 or method == "OPTIONS"
        assert site.taken.events == []


@pytest.mark.parametrize(
    "content_type",
    [
        "",
        "text/plain",
        "application/x-www-form-urlencoded",
        "application/json; charset=utf-16",
        "json",
        "*/*",
    ],
)
async def test_another_media_type_is_refused(content_type: str) -> None:
    headers, body = shopify()
    async with running_site() as site:
        reply = await post(site, "shopify", ({**headers, "Content-Type": content_type}, body))
        assert reply.status == 415
        assert site.taken.events == []


@pytest.mark.parametrize(
    ("document", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff\xfe{}", 400),
        (b'{"id": 1, "id": 2}', 400),
        (b"[" * 100_000, 400),
        (shopify_order(total_price="much"), 422),
        (shopify_order(id=None), 422),
        (b"[]", 204),  # no order at all
        (shopify_order(cancelled_at="2026-11-21T10:00:00Z"), 204),  # not one to tell anybody of
        ({"id": 1}, 204),
    ],
)
async def test_a_genuine_one_of_which_no_event_can_be_made(document: Any, status: int) -> None:
    async with running_site() as site:
        reply = await post(site, "shopify", shopify(document))
        assert reply.status == status
        assert status == 204 or json.loads(reply.body).keys() == {"type", "title", "status"}
        assert site.taken.events == []


async def test_a_kind_that_is_not_taken_is_answered_so_that_the_vendor_does_not_come_again() -> None:
    async with running_site() as site:
        assert (await post(site, "shopify", shopify(topic="refunds/create"))).status == 204
        assert (await post(site, "stripe", stripe(stripe_event("customer.created")))).status == 204
        assert site.taken.events == []


async def test_the_log_says_which_kind_was_not_taken_and_repeats_nothing_else() -> None:
    topics = ["refunds/create", "ada@example.com", "x" * 500]
    async with running_site() as site:
        with capture_logs() as logs:
            for topic in topics:
                assert (await post(site, "shopify", shopify(topic=topic))).status == 204
            assert (await post(site, "stripe", stripe(stripe_event("customer.created")))).status == 204
    kind, address, long, stripe_kind = [line for line in logs if line["event"] == "webhook.ignored"]
    assert kind["vendor"] == "shopify"
    assert kind["detail"].endswith("and is refunds/create")
    assert "customer.created" in stripe_kind["detail"]
    for line, topic in ((address, topics[1]), (long, topics[2])):
        assert topic not in line["detail"]
        assert len(line["detail"]) <= 300


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BrokerUnavailableError("away"), 503),
        (PublishUnknownError("no confirm"), 503),
        (BusyError("busy"), 503),
        (TimeoutError(), 503),
        (UnroutableError("no queue"), 500),
        (ValueError("ada@example.com"), 500),
    ],
)
async def test_what_is_in_no_queue_is_not_answered_with_2xx(error: Exception, status: int) -> None:
    async with running_site() as site:
        site.taken.failure = error
        reply = await post(site, "shopify", shopify())
        assert reply.status == status
        assert b"ada" not in reply.body
        assert ("retry-after" in reply.headers) == (status == 503)
        site.taken.failure = None
        assert (await post(site, "shopify", shopify())).status == 204


async def test_it_is_answered_in_time_when_the_broker_hangs() -> None:
    async with running_site(answer_timeout_s=0.1) as site:
        site.taken.go.clear()
        assert (await post(site, "shopify", shopify())).status == 503


async def test_a_body_that_is_too_large_is_not_read_to_its_end() -> None:
    async with running_site(webhooks={"body_bytes_max": 10_000}) as site:
        big = shopify_order(note="x" * 20_000)
        assert (await post(site, "shopify", shopify(big))).status == 413
        headers, _ = shopify()
        lines = ["POST /webhooks/shopify HTTP/1.1", "Host: h.example", "Transfer-Encoding: chunked"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        chunk = b"2000\r\n" + b"x" * 0x2000 + b"\r\n"
        raw = await site.raw(head, *[chunk] * 2)
        assert raw.startswith(b"HTTP/1.1 413")
        assert site.taken.events == []


async def test_a_signature_header_that_is_there_twice_is_refused() -> None:
    headers, body = shopify()
    name = "X-Shopify-Hmac-Sha256"
    async with running_site() as site:
        reply = await site.request(
            "POST", "/webhooks/shopify", [*headers.items(), (name, headers[name])], body
        )
        assert reply.status == 400
        assert site.taken.events == []


async def test_more_than_the_rate_are_told_when_to_come_again_and_forged_ones_use_none_of_it() -> None:
    async with running_site(webhooks={"rate_per_s": 0.1, "burst": 2}) as site:
        for _ in range(5):
            assert (await post(site, "shopify", shopify(secret="guessed"))).status == 401
        statuses = [(await post(site, "shopify", shopify())).status for _ in range(2)]
        assert statuses == [204, 204]
        reply = await post(site, "shopify", shopify())
        assert reply.status == 429
        assert 1 <= int(reply.headers["retry-after"]) <= 10
        assert (await post(site, "stripe", stripe())).status == 204  # each vendor for itself


async def test_nothing_is_answered_before_it_is_confirmed() -> None:
    async with running_site() as site:
        site.taken.go.clear()
        task = asyncio.create_task(post(site, "shopify", shopify()))
        await site.taken.arrived.wait()
        assert not task.done()
        assert site.taken.events == []
        site.taken.go.set()
        assert (await task).status == 204
        assert event_types(site) == ["order.processed"]
