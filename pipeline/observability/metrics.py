"""Every metric of a process, in one registry. Labels are bounded: no ids, no numbers, no addresses."""

from collections.abc import Callable

from pipeline.observability.api_metrics import ApiMetrics
from pipeline.observability.broker_metrics import BrokerMetrics
from pipeline.observability.intake_metrics import IntakeMetrics
from pipeline.observability.message_metrics import MessageMetrics
from pipeline.observability.pool_metrics import PoolMetrics
from pipeline.observability.process_metrics import ProcessMetrics
from pipeline.observability.public_metrics import PublicMetrics
from pipeline.observability.registry import MetricRegistry
from pipeline.observability.shard_metrics import ShardMetrics
from pipeline.observability.work_metrics import WorkMetrics


class Metrics(
    IntakeMetrics,
    BrokerMetrics,
    MessageMetrics,
    PoolMetrics,
    ShardMetrics,
    PublicMetrics,
    ApiMetrics,
    ProcessMetrics,
):
    """The metrics of one process. Seconds and bytes throughout.

    `work`: what waits at each bottleneck. `looks` are called every five seconds by the event loop, for gauges
    that no other thread may work out: they are quick and raise nothing.
    """

    def __init__(self) -> None:
        self.registry = MetricRegistry()
        IntakeMetrics.__init__(self, self.registry)
        BrokerMetrics.__init__(self, self.registry)
        self.work = WorkMetrics(self.registry)
        MessageMetrics.__init__(self, self.registry)
        PoolMetrics.__init__(self, self.registry)
        ShardMetrics.__init__(self, self.registry)
        PublicMetrics.__init__(self, self.registry)
        ApiMetrics.__init__(self, self.registry)
        ProcessMetrics.__init__(self, self.registry)
        self.looks: list[Callable[[], None]] = []
