"""What sending costs: messages from the outbox to the providers, and the CPU each part spends on them.

The sender is the shipped `postorder run --only notifications`, a process of one thread. `per_s_per_core` is
messages per second of that process's own CPU time, so it does not depend on who else takes turns.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from uuid import uuid4

import aiohttp

from consumers.lean.publisher import LeanPublisher
from consumers.lean.wire import property_bytes, route_of
from consumers.migration import apply_to_broker, migrate_all
from consumers.topology import DIRECT_EXCHANGE
from loadtest.acceptances import Acceptances
from loadtest.cpu_account import CpuAccount, rss_mb
from loadtest.event_source import order_body
from loadtest.intake_bench import FOLDER, BenchError
from loadtest.owed_messages import about_to_be_owed, moments, open_messages, states
from loadtest.pipeline_process import PipelineProcess
from loadtest.sender_profile import Profile, read_profile, sampling
from loadtest.sending_figures import Drain, Planned, SendingLoop, drain_of, loop_of
from loadtest.statement_calls import read_calls, statements
from pipeline.ingest.content_mode import STRUCTURED_TYPE
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel
from stack.status import StackStatus

# No order mail waits for an invoice.
SENDING = {"POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": "0"}
WARM_UP = 2000
_ROUTE = route_of(DIRECT_EXCHANGE, "order.processed", mandatory=True)
_STALL_S = 30.0
_POLL_S = 0.05
_CONFIRM_TIMEOUT_S = 60.0
_WARM_UP_S = 3.0


class NotificationsBench:
    """The scenarios, on a running stack. The processes are started anew for each."""

    def __init__(self, stack: StackStatus, settings: Settings, settings_file: Path) -> None:
        self._stack = stack
        self._settings = settings
        self._settings_file = settings_file
        self.cluster = Cluster(settings)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator["NotificationsBench"]:
        """Prepare broker and shards."""
        await migrate_all(self._settings)
        await apply_to_broker(self._settings)
        try:
            for shard in self.cluster:
                await shard.primary.open()
            await self.cluster.load_map()
            yield self
        finally:
            await self.cluster.close()

    async def profile(self, channel: Channel, messages: int, py_spy: Path) -> Profile:
        """Drain once more under a sampler, which slows everything down; return where the time went."""
        file = FOLDER / f"{channel}.stacks"
        async with self._acceptances() as found:
            count = found.sms_count if channel is Channel.SMS else found.mail_count
            with self._process("sender", "notifications") as sender:
                await self._send(sender, channel, WARM_UP, count)
                with sampling(py_spy, sender.pid, file):
                    await self._send(sender, channel, messages, count)
        return read_profile(file)

    async def drain(self, channel: Channel, messages: int) -> Drain:
        """Let so many messages of a channel be due at once; ends when every one was accepted."""
        async with self._acceptances() as found:
            count = found.sms_count if channel is Channel.SMS else found.mail_count
            with self._process("sender", "notifications") as sender:
                await self._send(sender, channel, WARM_UP, count)
                account, before = self._account(channel, sender=sender), await read_calls(self.cluster)
                rss, seconds, used = await self._send(sender, channel, messages, count, account)
                ran = statements(before, await read_calls(self.cluster), messages)
        return drain_of(messages, seconds, used, rss, ran)

    async def open_loop(self, orders_per_s: float, seconds: float, seed: int = 7) -> SendingLoop:
        """Publish orders by a Poisson process, with intake and sending in a process each."""
        chance = random.Random(seed)
        async with self._acceptances() as found:
            with (
                self._process("intake", "order-processed") as intake,
                self._process("sender", "notifications") as sender,
            ):
                await self._publish_and_wait(found, sender, orders_per_s, _WARM_UP_S, chance)
                account = self._account(Channel.SMS, sender=sender, intake=intake)
                began, before = time.time(), account.read()
                planned = await self._publish_and_wait(found, sender, orders_per_s, seconds, chance)
                used = {name: after - before[name] for name, after in account.read().items()}
                took = time.time() - began
                await self._until_quiet(intake, sender)
            numbers, addresses = await found.sms_times(began), await found.mail_times(began)
        passed = await moments(self.cluster)
        busy = sum(used.values()) / took
        return loop_of(planned, numbers, addresses, passed, rate=orders_per_s, busy_cores=busy)

    # --- parts ----------------------------------------------------------------------------------------

    def _process(self, name: str, role: str) -> PipelineProcess:
        return PipelineProcess(self._settings_file, FOLDER / f"{name}.log", SENDING, ("--only", role))

    @asynccontextmanager
    async def _acceptances(self) -> AsyncIterator[Acceptances]:
        async with aiohttp.ClientSession() as session:
            yield Acceptances(
                session, smtp_api=self._stack.smtp.api_url, twilio_api=self._stack.twilio.api_url
            )

    def _account(self, channel: Channel, **processes: PipelineProcess) -> CpuAccount:
        pids = self._stack.pids
        groups = {
            "primaries": [pid for name, pid in pids.items() if name.endswith("-primary")],
            "replicas": [pid for name, pid in pids.items() if name.endswith("-replica")],
            **{name: [process.pid] for name, process in processes.items()},
        }
        if "intake" in processes:
            groups["broker"] = [pids["rabbitmq"]]
        else:
            groups["provider"] = [pids["twilio_emulator" if channel is Channel.SMS else "smtp_sink"]]
        return CpuAccount(groups)

    async def _send(
        self,
        sender: PipelineProcess,
        channel: Channel,
        messages: int,
        count: Callable[[], Awaitable[int]],
        account: CpuAccount | None = None,
    ) -> tuple[float, float, dict[str, float]]:
        """Send a full outbox; return the sender's largest memory, the seconds, and the CPU seconds used."""
        run, goal = uuid4().hex[:8], await count() + messages
        async with about_to_be_owed(self.cluster, run, messages, channel):
            before = account.read() if account else {}
            began = time.monotonic()
        rss = await self._until(sender, count, goal)
        seconds = time.monotonic() - began
        used = {name: after - before[name] for name, after in (account.read() if account else {}).items()}
        await self._until_quiet(sender)
        found = await states(self.cluster, run)
        if found != {"accepted": messages}:
            raise BenchError(f"not every {channel} was accepted: {dict(found)}: see {sender.log}")
        return rss, seconds, used

    async def _until(self, sender: PipelineProcess, count: Callable[[], Awaitable[int]], goal: int) -> float:
        """Wait until a provider has accepted so many; return the sender's largest memory seen, in MB."""
        seen, deadline, rss = -1, 0.0, 0.0
        while True:
            sender.check()
            rss = max(rss, rss_mb(sender.pid))
            accepted = await count()
            if accepted >= goal:
                return rss
            if accepted != seen:
                seen, deadline = accepted, time.monotonic() + _STALL_S
            elif time.monotonic() > deadline:
                raise BenchError(f"{goal - accepted} messages do not come: see {sender.log}")
            await asyncio.sleep(_POLL_S)

    async def _until_quiet(self, *processes: PipelineProcess) -> None:
        """Wait until no message is open, twice in a row, because what is taken in may come between."""
        quiet, deadline = 0, time.monotonic() + 2 * _STALL_S
        while quiet < 2:  # noqa: PLR2004
            for process in processes:
                process.check()
            quiet = 0 if await open_messages(self.cluster) else quiet + 1
            if time.monotonic() > deadline:
                raise BenchError(f"messages stay open: see {processes[-1].log}")
            await asyncio.sleep(0.5)

    async def _publish_and_wait(
        self, found: Acceptances, sender: PipelineProcess, rate: float, seconds: float, chance: random.Random
    ) -> list[Planned]:
        """Publish, and wait until both messages of each order were accepted."""
        sms, mails = await found.sms_count(), await found.mail_count()
        planned = await self._publish(rate, seconds, chance)
        await self._until(sender, found.sms_count, sms + len(planned))
        await self._until(sender, found.mail_count, mails + len(planned))
        return planned

    async def _publish(self, rate: float, seconds: float, chance: random.Random) -> list[Planned]:
        """Publish orders, each at its planned moment or as soon after as may be."""
        run = uuid4().hex[:8]
        properties = property_bytes(content_type=STRUCTURED_TYPE)
        publisher = LeanPublisher(self._settings.amqp, "bench", 100_000)
        await publisher.open()
        planned: list[Planned] = []
        try:
            at = began = time.time()
            while (at := at + chance.expovariate(rate)) < began + seconds:
                if (ahead := at - time.time()) > 0:
                    await asyncio.sleep(ahead)
                body, one = _order(run, len(planned), at)
                await publisher.publish(_ROUTE, properties, body)
                planned.append(one)
            await publisher.settled(_CONFIRM_TIMEOUT_S)
        finally:
            await publisher.close()
        return planned


def _order(run: str, number: int, at: float) -> tuple[bytes, Planned]:
    """Return an order of a customer of its own."""
    phone = f"+49152{(int(run, 16) * 4096 + number) % 10**8:08d}"
    address = f"{run}.{number}@example.com"
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
    body = order_body(run, number, moment).replace(b"+14155550123", phone.encode())
    body = body.replace(f"ada.{number}@example.com".encode(), address.encode())
    return body.replace(b'"US"', b'"DE"'), Planned(f"{run}-{number}", phone, address, at)
