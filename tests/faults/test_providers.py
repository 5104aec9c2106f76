"""Providers that fail, hang or ask to be left alone: they are; the other channel goes on, nothing is lost."""

import asyncio
import time
import zlib
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from emulated_twilio import SID, TOKEN, emulated
from real_stack import Bench, order_event

pytestmark = [pytest.mark.faults, pytest.mark.timeout(200)]

SHORT = {
    "notifications_grace_window_s": "0",
    "notifications_lease_s": "10",
    "documents_timeout_s": "3",
    "sms_timeout_s": "2",
    "sms_connect_timeout_s": "2",
    "email_timeout_s": "2",
    "effects_ask_after_s": "13",
    "effects_ask_interval_s": "2",
}


def an_order(order_id: str) -> dict[str, Any]:
    """An order with a number of its own, so that a provider can be asked for its SMS."""
    phone = f"+49151{zlib.crc32(order_id.encode()) % 90_000_000 + 10_000_000}"
    return order_event(order_id, customer={"name": "Ada", "email": f"{order_id}@example.com", "phone": phone})


async def publish_steadily(bench: Bench, run: str, *, rate: int, seconds: float) -> int:
    """Publish at a rate by the clock; return how many."""
    started, published = time.monotonic(), 0
    while (passed := time.monotonic() - started) < seconds:
        wanted = int(rate * passed) - published
        await bench.publish(*(an_order(f"{run}-{published + n}") for n in range(wanted)))
        published += wanted
        await asyncio.sleep(0.1)
    return published


async def mails(bench: Bench) -> int:
    return (await bench.smtp("health"))["total"]


async def creates(bench: Bench) -> int:
    return (await bench.twilio("requests"))["by_route"].get("create", 0)


async def sms_accepted(bench: Bench) -> int:
    rows = await bench.rows(
        "SELECT count(*) AS n FROM outbox WHERE channel = 'sms' AND state IN ('accepted', 'delivered')"
    )
    return sum(row["n"] for row in rows)


@pytest.mark.fault(41, "the SMS provider fails for 20 s: 503, or 429 without a time", ["I10", "I15", "I23"])
@pytest.mark.parametrize(("status", "code"), [(503, 20503), (429, 20429)])
async def test_an_outage_costs_few_calls_and_is_made_up_for(
    bench: Bench, run_pipeline, status: int, code: int
) -> None:
    outage_s, rate = 20.0, 25
    fault = {"on": "create", "action": "status", "status": status, "code": code}
    with run_pipeline(**SHORT):
        count = await publish_steadily(bench, "calm", rate=rate, seconds=4)
        await bench.until_quiet(count)
        await bench.twilio("behaviour", {"faults": [fault]})
        calls, calm = await creates(bench), count
        count += await publish_steadily(bench, "out", rate=rate, seconds=outage_s)
        failed = await creates(bench) - calls
        status_now = await bench.status()
        assert status_now.accounting.events >= calm + 0.95 * (count - calm)  # intake does not notice
        assert await mails(bench) >= calm + 0.95 * (count - calm) - rate  # nor does e-mail
        # Without circuit and budget it would be every message, and each several times.
        assert failed <= 0.2 * (count - calm) + 6
        await bench.twilio("behaviour", {})
        healed = time.monotonic()

        async def made_up() -> bool:
            return await sms_accepted(bench) == count

        await bench.until(made_up, "every SMS accepted", 2 * outage_s)
        assert time.monotonic() - healed <= 2 * outage_s
        settled = await bench.until_quiet(count)
    assert settled.accounting.balances
    sent = await bench.twilio("health")
    assert (sent["total"], sent["duplicates"]) == (count, 0)
    assert await mails(bench) == count


@pytest.fixture
async def hanging() -> AsyncIterator[str]:
    """A provider of this test alone: what it answers late would disturb others."""
    async with emulated() as url, aiohttp.ClientSession() as http:
        async with http.put(f"{url}/_control/behaviour", json={"latency_ms": 30_000}) as answer:
            assert answer.status == 200
        yield url


@pytest.mark.fault(43, "the SMS provider answers after 30 s", ["I23", "I24", "I25"])
async def test_a_hanging_provider_leaves_the_other_channel_its_rate(
    bench: Bench, run_pipeline, hanging: str
) -> None:
    calm, _ = await mails_in_time(bench, run_pipeline, "calm")
    await bench.smtp("reset", {})
    other = {"sms_base_url": hanging, "sms_account_sid": SID, "sms_auth_token": TOKEN}
    hung, exit_status = await mails_in_time(bench, run_pipeline, "hung", **other)
    assert hung >= 0.95 * calm
    rows = await bench.rows(
        "SELECT count(*) AS n FROM outbox WHERE channel = 'sms' AND state NOT IN ('pending', 'accepted')"
    )
    # A pool's worth at first, then one at a time; the others wait where nothing can happen to them.
    assert 0 < sum(row["n"] for row in rows) <= 2 * 64 + 6
    assert exit_status == 0


async def mails_in_time(bench: Bench, run_pipeline, run: str, **overrides: str) -> tuple[float, int | None]:
    """The share of orders that come in 8 s at 60 a second whose mail is out when the last has come."""
    with run_pipeline(**SHORT, **overrides) as process:
        warm = await publish_steadily(bench, f"{run}-warm", rate=60, seconds=2)

        async def all_out() -> bool:
            return await mails(bench) >= warm

        await bench.until(all_out, "the first mails")
        count = await publish_steadily(bench, run, rate=60, seconds=8)
        share = (await mails(bench) - warm) / count
    return share, process.exit_status


@pytest.mark.fault(44, "429 with Retry-After: seconds, a date, none of both", ["I14"])
@pytest.mark.parametrize(
    ("header", "wait_s"),
    [("1", 1.0), ("4", 4.0), ("date", 4.0), ("soon", 0.0), ("-5", 0.0), ("", 0.0), ("1e309", 0.0)],
)
async def test_retry_after_is_kept(bench: Bench, run_pipeline, header: str, wait_s: float) -> None:
    with run_pipeline("--only", "order-processed,notifications", **SHORT, notifications_retry_base_s="0.1"):
        await bench.publish(an_order("warm"))
        await bench.until_quiet(1)
        date = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=wait_s)
        value = format_datetime(date, usegmt=True) if header == "date" else header
        fault = {"on": "create", "action": "status", "status": 429, "code": 20429, "retry_after": value}
        await bench.twilio("behaviour", {"faults": [{**fault, "count": 1}]})
        asked_at = time.time()
        await bench.publish(an_order("first"))

        async def refused() -> bool:
            return (await creates(bench)) >= 2

        await bench.until(refused, "the refused call")
        await bench.publish(*(an_order(f"o-{number}") for number in range(20)))
        await bench.until_quiet(22)
    sent = await bench.sms()
    assert len(sent) == len({message["body"] for message in sent}) == 22
    assert (await creates(bench)) == 23  # none in vain
    earliest = date.timestamp() if header == "date" else asked_at + wait_s
    assert sorted(message["created_at"] for message in sent)[1] >= earliest
