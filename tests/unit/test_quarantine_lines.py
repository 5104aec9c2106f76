"""Lines of the log about what goes to quarantine name the order, where it is known whose it is."""

from typing import Any

import orjson
from data.corpus.intake import Intake
from flow import Flow
from real_stack import invoice_event, order_event
from structlog.testing import capture_logs

from consumers.event_files import as_delivery
from pipeline.errors import StorageRejectedError
from pipeline.observability.correlation import correlation_id
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap


class Refusing:
    """A shard, and the cluster and the bench around it, that takes no row whatever it is."""

    name = "one"

    def __init__(self) -> None:
        self.router = Router(ShardMap.first({"one": 1}))
        self.cluster = self.writer = self
        self.shards = {"one": self}

    def __getitem__(self, _name: str) -> "Refusing":
        return self

    async def refresh(self) -> None:
        pass

    async def write(self, *_arguments: Any) -> None:
        raise StorageRejectedError("one: refused")


def test_what_is_refused_on_arrival_is_logged_with_its_orders_correlation_id_where_that_is_known() -> None:
    intake = Intake()
    with capture_logs() as logs:
        for body in (orjson.dumps(invoice_event("o-1", url="ftp://docs.example/a")), b"{"):
            [item] = intake.take(as_delivery(body))
            assert item.row.log_ids.items() <= logs[-1].items()
    known, unknown = [line for line in logs if line["event"] == "event.quarantined"]
    assert known["correlation_id"] == correlation_id("o-1")
    assert known["quarantine_id"] != unknown["quarantine_id"]
    assert "correlation_id" not in unknown


async def test_what_not_even_the_quarantine_takes_is_logged_likewise() -> None:
    refusing: Any = Refusing()
    flow = Flow(refusing)
    await flow.processor.start()
    with capture_logs() as logs:
        flow.give(orjson.dumps(order_event("o-1")), b"{")
        await flow.processor.drain()
    await flow.processor.stop()
    lines = [line for line in logs if line["event"] == "event.unquarantinable"]
    assert sorted(line.get("correlation_id", "") for line in lines) == ["", correlation_id("o-1")]
    assert all(len(line["quarantine_id"]) == 32 for line in lines)
    assert len(flow.parking.parcels) == 2
    assert flow.crashes == []
