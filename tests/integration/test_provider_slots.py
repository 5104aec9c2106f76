"""Two providers for a channel, each a stand-in of its own: weights, stepping in, and never twice."""

from collections.abc import AsyncIterator

import aiohttp
import pytest
from emulated_twilio import SID, TOKEN, emulated
from real_stack import Bench, order_event

pytestmark = pytest.mark.timeout(60)


class Second:
    """A second Twilio account, in the test's own loop."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http
        self.settings = {
            "sms_second_base_url": url,
            "sms_second_account_sid": SID,
            "sms_second_auth_token": TOKEN,
            "sms_second_from_number": "+15005550006",
        }

    async def behave(self, **behaviour) -> None:
        async with self._http.put(f"{self._url}/_control/behaviour", json=behaviour) as answer:
            assert answer.status == 200

    async def sms(self) -> list[dict]:
        async with self._http.get(f"{self._url}/_control/messages?limit=500") as answer:
            return (await answer.json())["messages"]


@pytest.fixture
async def second() -> AsyncIterator[Second]:
    async with emulated() as url, aiohttp.ClientSession() as http:
        yield Second(url, http)


async def providers(bench: Bench) -> dict[str, int]:
    rows = await bench.rows(
        "SELECT provider, count(*) AS n FROM outbox WHERE channel = 'sms' AND state = 'accepted' GROUP BY 1"
    )
    found: dict[str, int] = {}
    for row in rows:
        found[row["provider"]] = found.get(row["provider"], 0) + row["n"]
    return found


async def test_weights_share_messages_out(bench: Bench, run_pipeline, second: Second) -> None:
    with run_pipeline(sms_weight="3", notifications_grace_window_s="0", **second.settings):
        for first in range(0, 80, 20):  # so few at a time that no provider is full: then the other helps out
            await bench.publish(*(order_event(f"o-{number}") for number in range(first, first + 20)))
            await bench.until_quiet(first + 20)
    found = await providers(bench)
    assert found == {"twilio": len(await bench.sms()), "twilio_second": len(await second.sms())}
    assert sum(found.values()) == 80
    assert 55 <= found["twilio"] <= 65


@pytest.mark.parametrize("trouble", ["unreachable", "401"])
async def test_a_fallback_steps_in_at_once_and_nothing_is_sent_twice(
    bench: Bench, run_pipeline, second: Second, trouble: str
) -> None:
    settings = dict(second.settings, sms_second_weight="0")
    if trouble == "401":
        settings["sms_auth_token"] = "not the token"
    else:
        settings["sms_base_url"] = "http://127.0.0.1:9"  # nobody listens there
    with run_pipeline(notifications_grace_window_s="0", **settings):
        await bench.publish(order_event("o-0"))
        await bench.until_quiet(1)
        await bench.publish(*(order_event(f"o-{number}") for number in range(1, 20)))
        await bench.until_quiet(20)
    assert await providers(bench) == {"twilio_second": 20}
    assert await bench.sms() == []
    rows = await bench.rows("SELECT attempts FROM outbox WHERE channel = 'sms'")
    assert {row["attempts"] for row in rows} == {1}  # within the same attempt
    if trouble == "401":
        assert (await bench.twilio("requests"))["total"] == 1  # held off, or left alone, since the first


async def test_an_unknown_outcome_is_nobody_elses(bench: Bench, run_pipeline, second: Second) -> None:
    lost = {"on": "create", "action": "accept_then_drop", "count": 3}
    await bench.twilio("behaviour", {"faults": [lost]})
    with run_pipeline(
        "--only",
        "order-processed,notifications",
        notifications_grace_window_s="0",
        **second.settings,
        sms_second_weight="0",
    ):
        await bench.publish(*(order_event(f"o-{number}") for number in range(5)))
        await bench.until_quiet(5)
    bodies = [message["body"] for message in (*await bench.sms(), *await second.sms())]
    assert len(bodies) == len(set(bodies)) == 5
