"""`postorder demo`: a real order history through the whole pipeline, and whether the numbers add up."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

import aiohttp
import msgspec
from aiohttp import web
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from consumers.migration import apply_to_broker, migrate_all
from consumers.publisher import EventPublisher
from consumers.status import read_status
from consumers.topology import WORK_QUEUES
from loadtest.cdnow import fetch_history, read_purchases
from loadtest.demo_report import DemoReport, Outcome, Totals, make_report
from loadtest.history import Plan, Planned, plan_history
from loadtest.metrics_page import MetricsPage, since_then
from loadtest.pipeline_process import PipelineProcess
from loadtest.sinks import Sinks
from pipeline.errors import PostorderError
from pipeline.settings import Settings, load_settings
from pipeline.storage.cluster import Cluster
from stack.ports import HOST, choose_port
from stack.status import StackStatus

CACHE = Path("var/cache")
FOLDER = Path("var/demo")
GRACE_S = 2.0
_POLL_S = 0.5
_START_TIMEOUT_S = 30.0
_STALL_TIMEOUT_S = 60.0


class DemoError(PostorderError):
    """The demo cannot go on."""


class DemoConfig(msgspec.Struct, frozen=True, kw_only=True):
    """`orders`: how many purchases to replay (None: all). `rate_per_s`: orders published per second."""

    orders: int | None
    rate_per_s: float


async def run_demo(
    config: DemoConfig, stack: StackStatus, settings_file: Path, say: Callable[[str], None], console: Console
) -> DemoReport:
    """Replay the history on a running stack and return the report. Raises DemoError and others of ours."""
    say("fetching the CDNOW order history (69,659 real purchases)")
    purchases = read_purchases(fetch_history(CACHE), config.orders)
    settings = load_settings(settings_file)
    for line in await migrate_all(settings):
        say(f"migrate: {line}")
    await apply_to_broker(settings)
    async with _documents() as (documents, document_host):
        run_id = f"{datetime.now(UTC):%y%m%d%H%M%S}"
        say(f"planning {len(purchases)} orders and their invoices")
        plan = plan_history(
            purchases,
            run_id,
            rate_per_s=config.rate_per_s,
            grace_s=GRACE_S,
            document_base=f"http://{document_host}",
        )
        documents.update(plan.documents)
        metrics_port = choose_port("management", set())
        pipeline = PipelineProcess(
            settings_file,
            FOLDER / "pipeline.log",
            {
                "POSTORDER_NOTIFICATIONS_GRACE_WINDOW_S": str(GRACE_S),
                "POSTORDER_INTAKE_DOCUMENT_HOSTS": document_host,
                "POSTORDER_OPS_METRICS_PORT": str(metrics_port),
            },
        )
        page = MetricsPage(f"http://{HOST}:{metrics_port}/metrics")
        async with _Run(
            settings=settings, stack=stack, plan=plan, pipeline=pipeline, page=page, say=say
        ) as run:
            return await run.play(console)


@contextlib.asynccontextmanager
async def _documents() -> AsyncIterator[tuple[dict[str, bytes], str]]:
    """Serve invoice documents by name, as an upstream system would; yields the documents and host:port."""
    documents: dict[str, bytes] = {}

    async def serve(request: web.Request) -> web.Response:
        found = documents.get(request.match_info["name"])
        if found is None:
            return web.Response(status=404)
        return web.Response(body=found, content_type="application/pdf")

    application = web.Application()
    application.router.add_get("/{name}", serve)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    port = choose_port("twilio", set())
    await web.TCPSite(runner, HOST, port).start()
    try:
        yield documents, f"{HOST}:{port}"
    finally:
        await runner.cleanup()


class _Run:
    """One replay: open connections, publish by plan, watch, wait until quiet, report."""

    def __init__(
        self,
        *,
        settings: Settings,
        stack: StackStatus,
        plan: Plan,
        pipeline: PipelineProcess,
        page: MetricsPage,
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._stack = stack
        self._plan = plan
        self._pipeline = pipeline
        self._page = page
        self._say = say
        self._cluster = Cluster(settings)
        self._exits = contextlib.AsyncExitStack()

    async def __aenter__(self) -> Self:
        self._exits.push_async_callback(self._cluster.close)
        for shard in self._cluster:
            await shard.primary.open()
        session = await self._exits.enter_async_context(aiohttp.ClientSession())
        self._session = session
        self._sinks = Sinks(session, smtp_api=self._stack.smtp.api_url, twilio_api=self._stack.twilio.api_url)
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self._exits.aclose()

    async def play(self, console: Console) -> DemoReport:
        with self._pipeline:
            await self._wait_for_consumers()
            # What an earlier run left in queues and outboxes is not ours to count.
            await self._wait_until_quiet(0, await self._totals())
            return await self._replay(console)

    async def _replay(self, console: Console) -> DemoReport:
        before = await self._totals()
        since = await next(iter(self._cluster)).reader.clock()
        earlier = await self._page.read(self._session)
        self._say(f"publishing {len(self._plan.publishes)} events")
        with _progress(console) as progress:
            started = time.monotonic()
            async with EventPublisher(self._settings.amqp) as publisher:
                watching = asyncio.create_task(self._watch(progress, publisher, before))
                try:
                    await self._publish(publisher)
                    published_s = time.monotonic() - started
                    await self._wait_until_quiet(len(self._plan.publishes), before)
                finally:
                    watching.cancel()
                    await asyncio.gather(watching, return_exceptions=True)
            total_s = time.monotonic() - started
            committed = since_then(earlier, await self._page.read(self._session))
            await self._show(progress, publisher, before)
        self._pipeline.stop()
        after = await self._totals()
        outcome = Outcome(
            plan=self._plan,
            confirmed=publisher.confirmed,
            before=before,
            after=after,
            attachments=await self._sinks.attachments(before.mails),
            latencies_s=await self._latencies(since),
            committed=committed,
            published_s=published_s,
            total_s=total_s,
            pipeline_exit=self._pipeline.exit_status,
        )
        return make_report(outcome)

    async def _publish(self, publisher: EventPublisher) -> None:
        """Publish by the plan's clock, whether or not earlier events are confirmed yet."""
        started = time.monotonic()

        async def publish(planned: Planned) -> None:
            body = planned.body(datetime.now(UTC))
            await publisher.publish(body, planned.routing_key, planned.content_type)

        async with asyncio.TaskGroup() as group:
            for planned in self._plan.publishes:
                ahead_s = planned.at_s - (time.monotonic() - started)
                if ahead_s > 0:
                    self._pipeline.check()
                    await asyncio.sleep(ahead_s)
                group.create_task(publish(planned))

    async def _wait_for_consumers(self) -> None:
        """Wait until the pipeline consumes, so that its start is not measured as latency."""
        async with _in_time(_START_TIMEOUT_S, "the pipeline does not consume"):
            while True:
                self._pipeline.check()
                status = await read_status(self._settings, self._cluster)
                if all(queue.consumers for queue in status.queues if queue.name in WORK_QUEUES):
                    return
                await asyncio.sleep(_POLL_S)

    async def _wait_until_quiet(self, expected: int, before: Totals) -> None:
        """Wait until so many events are accounted for and no message is open, as long as that goes on."""
        seen, deadline = None, 0.0
        while True:
            self._pipeline.check()
            status = await read_status(self._settings, self._cluster)
            arrived = status.accounting.events - before.status.accounting.events
            if arrived >= expected and status.is_quiet:
                return
            if (now := (arrived, status.effects)) != seen:
                seen, deadline = now, time.monotonic() + _STALL_TIMEOUT_S
            elif time.monotonic() > deadline:
                raise DemoError(
                    f"events or messages are open, and nothing moved for {_STALL_TIMEOUT_S:g} s: "
                    f"see {FOLDER / 'pipeline.log'}"
                )
            await asyncio.sleep(_POLL_S)

    async def _watch(self, progress: Progress, publisher: EventPublisher, before: Totals) -> None:
        while True:
            await self._show(progress, publisher, before)
            await asyncio.sleep(_POLL_S)

    async def _show(self, progress: Progress, publisher: EventPublisher, before: Totals) -> None:
        now = await self._totals()
        expected = self._plan.expected
        rows = {
            "published": (publisher.confirmed, len(self._plan.publishes)),
            "orders stored": (now.total("orders") - before.total("orders"), expected.orders),
            "invoices stored": (now.total("invoices") - before.total("invoices"), expected.invoices),
            "SMS accepted": (now.sms - before.sms, expected.sms_accepted),
            "mails accepted": (now.mails - before.mails, None),
        }
        for name, (done, total) in rows.items():
            progress.update(_row(progress, name), completed=done, total=total)

    async def _totals(self) -> Totals:
        status = await read_status(self._settings, self._cluster)
        sms, sms_twice = await self._sinks.sms()
        mails, mails_twice = await self._sinks.mails()
        return Totals(status=status, sms=sms, sms_twice=sms_twice, mails=mails, mails_twice=mails_twice)

    async def _latencies(self, since: datetime) -> dict[str, list[float]]:
        found: dict[str, list[float]] = {"order_sms": [], "order_email": []}
        for kind in found:
            for shard in self._cluster:
                found[kind] += await shard.reader.acceptance_latencies_s(kind, since)
        return found


@contextlib.asynccontextmanager
async def _in_time(limit_s: float, what: str) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit_s):
            yield
    except TimeoutError as error:
        raise DemoError(f"{what} after {limit_s:g} s: see {FOLDER / 'pipeline.log'}") from error


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
    )


def _row(progress: Progress, name: str) -> TaskID:
    found = next((task.id for task in progress.tasks if task.description == name), None)
    return progress.add_task(name, total=None) if found is None else found
