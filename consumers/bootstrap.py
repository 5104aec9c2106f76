"""The composition root: which objects a process is made of. No logic."""

import asyncio
import gc
import os
import signal

import structlog

from consumers.customer_updated import customer_updated_consumer
from consumers.intake import intake_services
from consumers.invoice_generated import invoice_generated_consumer
from consumers.knobs import Knobs, Steering
from consumers.late_shards import LateShards
from consumers.opening import Opening
from consumers.ops.port import OpsPort
from consumers.order_processed import order_processed_consumer
from consumers.process_parts import ProcessParts, metric_counts
from consumers.role_needs import require_needs
from consumers.role_secrets import with_secrets_of
from consumers.roles import Role
from consumers.tracing import running, tracing_of
from pipeline.clock import Clock, SystemClock
from pipeline.control.report_board import ReportBoard
from pipeline.control.reporter import Reporter, this_process
from pipeline.lifecycle import Service, Tasks, run_services
from pipeline.observability.metrics import Metrics
from pipeline.observability.readiness import Phase, Readiness
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster, FindShard
from pipeline.storage.ledger_watch import LedgerWatch
from pipeline.storage.map_keeper import MapKeeper
from pipeline.storage.outbox_news import OutboxNews
from pipeline.storage.retention import Retention
from pipeline.storage.shard_watch import ShardWatch

log = structlog.get_logger(__name__)


class Process:
    """One running pipeline process. `run` returns its exit status.

    `find_shard` looks up a shard that the map names and `settings` do not. `steering`: a supervisor, if any.
    """

    def __init__(
        self,
        settings: Settings,
        roles: frozenset[Role],
        find_shard: FindShard,
        steering: Steering | None = None,
    ) -> None:
        require_needs(settings, roles)
        settings = with_secrets_of(settings, roles)
        if Role.NOTIFICATIONS in roles:
            from consumers.notifications import checked_templates  # noqa: PLC0415  # 13 MB, for one role

            # Before anything is connected: what is wrong with a template does not wait for a database.
            self._templates = checked_templates(settings)
        self._settings = settings
        self._roles = roles
        self._clock: Clock = SystemClock()
        self._metrics = Metrics()
        self._readiness = Readiness()
        self._cluster = Cluster(settings, find_shard)
        self._parts = ProcessParts(fields={"epoch": lambda: self._cluster.router.epoch})
        self._knobs = Knobs()
        self._steering = steering
        if steering is not None:
            self._parts.extra["allocator"] = steering.report
        self._stopping = asyncio.Event()
        self._opening = Opening(self._cluster, self._stopping)
        self._readiness.checks.append(self._opening.causes)
        self._is_signalled = False
        self._crashed = False
        self._tracing = tracing_of(
            settings.traces,
            roles=roles,
            metrics=self._metrics,
            clock=self._clock,
            new_tasks=self._new_tasks,
        )

    async def run(self) -> int:
        """Run until SIGTERM or SIGINT, then drain. 0: drained; 1: crashed or not drained in time."""
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, self._on_signal, number)
        _calm_garbage_collector()
        ops = self._settings.ops
        port = OpsPort(ops, self._metrics, self._readiness, roles=self._roles, tasks=self._new_tasks())
        port.start()
        try:
            if not await self._opening.open():
                return 0
            log.info("pipeline.started", roles=sorted(self._roles), shards=list(self._cluster.shards))
            async with running(self._tracing):
                drained = await run_services(
                    [*self._services(), self._readiness],
                    self._stopping,
                    drain_timeout_s=ops.drain_timeout_s,
                )
        finally:
            await self._cluster.close()
            await port.close()
        log.info("pipeline.stopped", drained=drained, crashed=self._crashed)
        return 0 if drained and not self._crashed else 1

    def stop(self, why: str) -> None:
        """Have the process drain and end. Once more does nothing."""
        if not self._stopping.is_set():
            log.info("pipeline.stopping", why=why)
            self._readiness.phase = Phase.DRAINING
            self._stopping.set()

    def _on_signal(self, number: int) -> None:
        if self._is_signalled:
            # A second signal means now. Nothing is lost: what is not acknowledged comes again.
            os._exit(128 + number)
        # Of a supervisor that was killed, the end of its socket and the kernel's signal come together.
        self._is_signalled = True
        self.stop(signal.Signals(number).name)

    def _on_crash(self, task: str, error: BaseException) -> None:
        log.critical("task.crashed", task=task, exc_info=error)
        self._metrics.crashes.inc()
        self._readiness.phase = Phase.DRAINING
        self._crashed = True
        self._stopping.set()

    def _new_tasks(self) -> Tasks:
        return Tasks(self._on_crash)

    def _services(self) -> list[Service]:
        """Return the services of the roles, most downstream first."""
        sends = Role.NOTIFICATIONS in self._roles
        tracing = self._tracing
        news = OutboxNews(self._cluster, listens=sends, clock=self._clock, tasks=self._new_tasks())
        services: list[Service] = [news]
        if sends:
            services += self._sending_services(news)
        makers = {
            Role.ORDERS: order_processed_consumer,
            Role.INVOICES: invoice_generated_consumer,
            Role.CUSTOMERS: customer_updated_consumer,
        }
        wanted = [make for role, make in makers.items() if role in self._roles]
        if wanted:
            services += intake_services(
                self._settings,
                self._cluster,
                wanted,
                metrics=self._metrics,
                clock=self._clock,
                new_tasks=self._new_tasks,
                on_committed=news.tell,
                knobs=self._knobs,
                parts=self._parts.fields,
                traces=tracing.batches if tracing else None,
                readiness=self._readiness,
            )
        if Role.PUBLIC in self._roles and self._settings.public.port:
            services += self._public_services()
        if Role.API in self._roles and self._settings.api.port:
            services += self._api_services()
        services += self._steered()
        keeper = MapKeeper(self._cluster, metrics=self._metrics, clock=self._clock, tasks=self._new_tasks())
        watch = self._shard_watch(counts=sends)
        late = LateShards(self._cluster, clock=self._clock, tasks=self._new_tasks())
        return [self._reporter(), watch, keeper, late, *services]

    def _reporter(self) -> Reporter:
        return Reporter(
            ReportBoard(self._cluster, self._clock),
            this_process(self._roles),
            counts=metric_counts(self._metrics),
            parts=self._parts.fields,
            extra=self._parts.extra,
            clock=self._clock,
            tasks=self._new_tasks(),
        )

    def _steered(self) -> list[Service]:
        """Return the service of whoever steers this process: the last one, so that it drains first."""
        if self._steering is None:
            return []
        return [self._steering.service(self._knobs, self._metrics, self._new_tasks())]

    def _shard_watch(self, *, counts: bool) -> ShardWatch:
        watch = ShardWatch(
            self._cluster,
            counts=counts,
            metrics=self._metrics,
            clock=self._clock,
            tasks=self._new_tasks(),
        )
        self._readiness.checks.append(watch.causes)
        return watch

    def _ledger_watch(self) -> LedgerWatch:
        return LedgerWatch(
            self._cluster,
            every_s=self._settings.ops.ledger_check_s,
            metrics=self._metrics,
            clock=self._clock,
            tasks=self._new_tasks(),
        )

    def _sending_services(self, news: OutboxNews) -> list[Service]:
        from consumers.notifications import notification_services  # noqa: PLC0415  # as above

        sending = notification_services(
            self._settings,
            self._cluster,
            templates=self._templates,
            news=news,
            metrics=self._metrics,
            clock=self._clock,
            new_tasks=self._new_tasks,
            parts=self._parts.fields,
            put=self._tracing.put if self._tracing else None,
        )
        return [*sending, self._retention(), self._ledger_watch()]

    def _public_services(self) -> list[Service]:
        from consumers.public.services import public_services  # noqa: PLC0415  # half a second, for few

        return public_services(
            self._settings,
            self._cluster,
            metrics=self._metrics,
            clock=self._clock,
            new_tasks=self._new_tasks,
            put=self._tracing.put if self._tracing else None,
        )

    def _api_services(self) -> list[Service]:
        from consumers.api.services import api_services  # noqa: PLC0415  # as above
        from consumers.console.routes import console_routes  # noqa: PLC0415  # as above

        return api_services(
            self._settings,
            self._cluster,
            metrics=self._metrics,
            clock=self._clock,
            new_tasks=self._new_tasks,
            more_routes=console_routes(),
        )

    def _retention(self) -> Retention:
        return Retention(self._cluster, self._settings.retention, clock=self._clock, tasks=self._new_tasks())


def _calm_garbage_collector() -> None:
    """Look for cycles more seldom: events hold none, and each look walks a whole batch."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(10_000, 10, 10)
