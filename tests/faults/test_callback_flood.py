"""Callbacks as a flood, forged, replayed and out of order, while orders come in."""

import asyncio
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from public_site import SECRET, sms_row
from real_stack import Bench, order_event

from pipeline.notifications.callbacks.seals import Seals
from stack.ports import HOST, choose_port
from stack.twilio.signature import sign

pytestmark = [pytest.mark.integration, pytest.mark.faults, pytest.mark.timeout(240)]

CALLERS, ORDERS = 16, 300
WORDS = ("queued", "sending", "sent", "undelivered", "nonsense")  # after `delivered` none of them counts


class Flood:
    """Callers that post as fast as they are answered: every second request is forged, the others are old."""

    def __init__(self, bench: Bench, base: str, row: dict[str, Any]) -> None:
        self._account = bench.settings.sms
        self._base = base
        self._row = row
        self.statuses: dict[int, int] = {}

    async def run(self, until: asyncio.Event) -> None:
        async with aiohttp.ClientSession() as http:
            await asyncio.gather(*(self._call(http, place, until) for place in range(CALLERS)))

    async def _call(self, http: aiohttp.ClientSession, place: int, until: asyncio.Event) -> None:
        path = f"/twilio/status/{Seals([SECRET]).seal(self._row['slot'], self._row['effect_id'], 1)}"
        while not until.is_set():
            place += 1
            fields = {
                "AccountSid": self._account.account_sid,
                "MessageSid": self._row["provider_id"],
                "MessageStatus": WORDS[place // 2 % len(WORDS)],
            }
            token = self._account.auth_token if place % 2 else "forged"
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "X-Twilio-Signature": sign(token, self._base + path, fields),
            }
            async with http.post(
                self._base + path, data=urlencode(fields).encode(), headers=headers
            ) as answer:
                self.statuses[answer.status] = self.statuses.get(answer.status, 0) + 1


@pytest.mark.fault(52, "callbacks as a flood: forged, replayed, out of order", ["I16", "I35"])
async def test_a_flood_changes_nothing_and_orders_go_on(bench: Bench, run_pipeline) -> None:
    port = choose_port("public", set())
    base = f"http://{HOST}:{port}"
    settings = {"public_port": str(port), "public_base_url": base, "public_secret": SECRET}
    await bench.twilio("behaviour", {"delivery": {"delay_ms": 10}})
    over = asyncio.Event()
    with run_pipeline(notifications_grace_window_s="0", **settings):
        await bench.publish(order_event("o-1"))

        async def is_delivered() -> bool:
            return (await sms_row(bench))["state"] == "delivered"

        await bench.until(is_delivered, "the first SMS is delivered")
        row = await sms_row(bench)
        flood = Flood(bench, base, row)
        flooding = asyncio.ensure_future(flood.run(over))
        await bench.publish(*(order_event(f"p-{number}") for number in range(ORDERS)))
        status = await bench.until_quiet(ORDERS + 1, timeout_s=120)

        async def was_a_flood() -> bool:
            return min(flood.statuses.values(), default=0) > 100

        await bench.until(was_a_flood, "a hundred of each kind are answered")
        over.set()
        await flooding
    assert status.accounting.balances
    assert await sms_row(bench) == row
    assert set(flood.statuses) == {204, 403}
    assert len(await bench.sms()) == ORDERS + 1
    print(f"answered during the flood: {flood.statuses}")  # noqa: T201  # for whoever runs it by hand
