"""Flow one, put together: from consumers to the lanes of every shard. No logic."""

from collections.abc import Callable, Iterable, Sequence

from consumers.amqp import ConsumerFactory, QueueConsumer
from consumers.knobs import Knobs
from consumers.parking import BrokerParking
from consumers.process_parts import Parts, intake_part
from consumers.strays import stray_consumers
from consumers.watchdog import Watchdog
from pipeline.clock import Clock
from pipeline.ingest.batch_traces import BatchTraces
from pipeline.ingest.batcher import Batcher, Item, Lane
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.entries import EntryBuilder
from pipeline.ingest.lane_writer import LaneWriter
from pipeline.ingest.parking import Parking
from pipeline.ingest.pressure import Pressure
from pipeline.ingest.processor import Processor
from pipeline.lifecycle import Service, Tasks
from pipeline.observability.metrics import Metrics
from pipeline.observability.readiness import Readiness
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster

MakeConsumer = Callable[[ConsumerFactory], QueueConsumer]


def intake_services(
    settings: Settings,
    cluster: Cluster,
    wanted: Sequence[MakeConsumer],
    *,
    metrics: Metrics,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
    on_committed: Callable[[str], None],
    knobs: Knobs,
    parts: Parts,
    traces: BatchTraces | None = None,
    readiness: Readiness,
) -> list[Service]:
    """Return parking, processor, consumers and their watchdog, most downstream first.

    `parts`: of the process's report. `knobs` get what they turn.
    """
    amqp = settings.amqp
    pressure = Pressure(high=settings.intake.buffer_events_max)
    parking = BrokerParking(amqp)
    processor = new_processor(
        settings,
        cluster,
        parking=parking,
        pressure=pressure,
        metrics=metrics,
        clock=clock,
        tasks=new_tasks(),
        on_committed=on_committed,
        traces=traces,
    )
    cluster.on_added.append(lambda shard: processor.add_shard(shard.name))
    cluster.on_map.append(processor.resort)
    factory = ConsumerFactory(
        settings=amqp,
        deliver=processor.accept,
        pressure=pressure,
        metrics=metrics,
        clock=clock,
        new_tasks=new_tasks,
    )
    adjustable = [make(factory) for make in wanted]
    knobs.take(adjustable, processor.batcher)
    consumers = [*adjustable, *stray_consumers(factory)]
    parts["intake"] = intake_part(settings, pressure, processor.waiting, consumers, knobs)
    watchdog = Watchdog(consumers, settings=amqp, metrics=metrics, clock=clock, tasks=new_tasks())
    readiness.checks.append(watchdog.causes)
    return [parking, processor, *consumers, watchdog]


def new_processor(
    settings: Settings,
    cluster: Cluster,
    *,
    parking: Parking,
    pressure: Pressure,
    metrics: Metrics,
    clock: Clock,
    tasks: Tasks,
    on_committed: Callable[[str], None],
    traces: BatchTraces | None = None,
) -> Processor:
    """Return a processor that writes to every shard of the cluster."""
    intake = settings.intake

    def route(items: Iterable[Item]) -> None:
        processor.route(items)

    def make_writer(name: str, lane: Lane) -> LaneWriter:
        return LaneWriter(
            cluster[name],
            lane,
            parking=parking,
            park_after_s=intake.park_after_s,
            attempts_max=intake.attempts_max,
            pressure=pressure,
            metrics=metrics,
            clock=clock,
            on_committed=on_committed,
            router=cluster.router,
            refresh=cluster.refresh,
            route=route,
            tasks=tasks,
            traces=traces,
        )

    processor = Processor(
        decoder=Decoder(
            message_bytes_max=intake.message_bytes_max, message_events_max=intake.message_events_max
        ),
        entries=EntryBuilder(
            cluster.router,
            document_bytes_max=intake.document_bytes_max,
            document_hosts=intake.document_hosts,
            allow_http=settings.documents.allow_http,
        ),
        batcher=Batcher(
            list(cluster.shards), batch_max=intake.batch_max, linger_s=intake.batch_linger_ms / 1000
        ),
        make_writer=make_writer,
        router=cluster.router,
        batches_in_flight=intake.batches_in_flight,
        park_after_s=intake.park_after_s,
        pressure=pressure,
        metrics=metrics,
        clock=clock,
        tasks=tasks,
    )
    return processor
