"""The shipped SMS provider behind its slot, against the Twilio emulator: what the emulator saw, and when."""

import asyncio
import time
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import aiohttp
import pytest
from emulated_twilio import SID, TOKEN, emulated
from provider_double import most_in_a_second, sms

from consumers.provider_slots import SlotMaker
from pipeline.clock import SystemClock
from pipeline.errors import HeldBackError, ThrottledError
from pipeline.lifecycle import Tasks
from pipeline.notifications.pools.provider_slots import ProviderSlots
from pipeline.notifications.pools.worker_pool import WorkerPool
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.observability.metrics import Metrics
from pipeline.settings import PoolSettings, SmsSettings

pytestmark = [
    pytest.mark.faults,  # real seconds count here, so nothing else should run beside
    pytest.mark.fault(44, "a provider that says when to come back, or that it is too much", ["I14", "I15"]),
]


class Account:
    """A slot of a stand-in of its own, and the stand-in's view of what was sent."""

    def __init__(self, url: str, http: aiohttp.ClientSession) -> None:
        self._url = url
        self._http = http
        self.provider: TwilioProvider | None = None

    def slots(self, **limits: Any) -> ProviderSlots:
        settings = SmsSettings(
            base_url=self._url, account_sid=SID, auth_token=TOKEN, from_number="+15005550006", **limits
        )
        self.provider = TwilioProvider(settings)
        maker = SlotMaker(PoolSettings(), Metrics(), SystemClock())
        return maker.sms({"twilio": settings}, {"twilio": self.provider})

    async def behave(self, **behaviour: Any) -> None:
        async with self._http.put(f"{self._url}/_control/behaviour", json=behaviour) as answer:
            assert answer.status == 200, await answer.text()

    async def look(self, path: str) -> Any:
        async with self._http.get(f"{self._url}/_control/{path}") as answer:
            return await answer.json()

    async def sent_at(self) -> list[float]:
        return sorted(one["created_at"] for one in (await self.look("messages?limit=5000"))["messages"])

    async def creates(self) -> int:
        return (await self.look("requests"))["by_route"].get("create", 0)


@pytest.fixture
async def account() -> AsyncIterator[Account]:
    async with emulated() as url, aiohttp.ClientSession() as http:
        opened = Account(url, http)
        yield opened
        if opened.provider is not None:
            await opened.provider.close()


async def until_sent(slots: ProviderSlots, number: int) -> None:
    """Send a message as a relay would: when somebody can be called, again and again."""
    while True:
        await slots.until_open()
        try:
            await slots.send(sms(number), 1)
        except HeldBackError:
            await asyncio.sleep(0.01)
        except ThrottledError:
            await asyncio.sleep(0.05)
        else:
            return


@pytest.mark.parametrize("header", ["1", "date"])
async def test_no_call_before_the_time_that_the_provider_says(account: Account, header: str) -> None:
    slots = account.slots()
    await slots.send(sms(), 1)
    until = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=2)
    value = format_datetime(until, usegmt=True) if header == "date" else header
    fault = {"on": "create", "action": "status", "status": 429, "code": 20429, "retry_after": value}
    await account.behave(faults=[{**fault, "count": 1}])
    asked_at = time.time()
    with pytest.raises(ThrottledError):
        await slots.send(sms(), 1)
    await asyncio.gather(*(until_sent(slots, number) for number in range(30)))
    earliest = until.timestamp() if header == "date" else asked_at + float(header)
    sent_at = await account.sent_at()
    assert (len(sent_at), await account.creates()) == (31, 32)  # none in vain
    assert sent_at[1] >= earliest
    assert sent_at[-1] <= earliest + 2


@pytest.mark.parametrize("header", ["soon", "-5", "1e309", "", "0"])
async def test_a_time_that_is_none_holds_nobody_long(account: Account, header: str) -> None:
    slots = account.slots()
    fault = {"on": "create", "action": "status", "status": 429, "code": 20429, "retry_after": header}
    await account.behave(faults=[{**fault, "count": 3}])
    started = time.monotonic()
    await asyncio.gather(*(until_sent(slots, number) for number in range(30)))
    assert (len(await account.sent_at()), await account.creates()) == (30, 33)
    assert time.monotonic() - started < 5


async def test_the_rate_that_the_emulator_sees(account: Account) -> None:
    slots = account.slots(rate_per_s=40)
    await asyncio.gather(*(until_sent(slots, number) for number in range(60)))
    sent_at = await account.sent_at()
    assert len(sent_at) == 60
    # The burst is 50 ms' worth; and calls, the first of which opens a connection, differ in duration.
    assert most_in_a_second(sent_at) <= 40 + 2 + 0.1 * 40
    assert sent_at[-1] - sent_at[0] < 1.1 * 58 / 40


async def test_a_provider_with_a_limit_of_its_own_is_learned(account: Account) -> None:
    """120 a second, 429 above that, and no word of it in our settings."""
    await account.behave(rate_limit={"per_s": 120, "burst": 10, "retry_after": None})
    slots = account.slots(concurrency_min=1)
    left = list(range(200))
    done = asyncio.Event()

    async def work(claim: Any) -> None:
        try:
            await slots.send(sms(claim), 1)
        except ThrottledError:
            left.append(claim)
        else:
            if len(await account.sent_at()) == 200:
                done.set()

    pool = WorkerPool("sms", capacity=slots, work=work, tasks=Tasks(lambda name, _error: pytest.fail(name)))
    pool.start()
    while not done.is_set():
        places = await pool.reserve(50)
        claims, left[:] = left[:places], left[places:]
        for claim in claims:
            pool.put(claim)
        pool.give_back(places - len(claims))
        await asyncio.sleep(0.01)
    await pool.finish()
    assert await account.creates() <= 1.5 * 200
