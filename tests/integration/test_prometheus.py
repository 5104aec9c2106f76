"""A real Prometheus scrapes a pipeline that works, and finds every metric that the page promises."""

import time
from pathlib import Path

import pytest
from metric_page import metric_names
from real_prometheus import RealPrometheus, prometheus_program, real_prometheus
from real_stack import Bench, invoice_event, order_event

from stack.ports import HOST, choose_port

pytestmark = pytest.mark.integration

# Served by the command that moves slots, by a supervisor, or with traces alone.
ELSEWHERE = (
    "postorder_reshard_", "postorder_allocator_", "postorder_worker_restarts", "postorder_spans_",
    "postorder_traces_",
)  # fmt: skip
# What has samples only once something happens that did not happen here.
RARE = {
    "postorder_quarantined_total", "postorder_write_failures_total", "postorder_parked_total",
    "postorder_amqp_reconnects_total", "postorder_stale_receipts_total", "postorder_inquiries_total",
    "postorder_messages_ruled_total", "postorder_opt_outs_total", "postorder_spend_held",
    "postorder_held_back_total", "postorder_accepted_to_delivered_seconds", "postorder_callbacks_total",
    "postorder_callback_seconds", "postorder_status_words_total", "postorder_api_requests_total",
    "postorder_api_seconds",
}  # fmt: skip
ASKED = {"histogram": "{}_count > 0", "counter": "{}", "gauge": "{}"}


@pytest.fixture
def prometheus() -> Path:
    return prometheus_program("prometheus")


async def test_every_metric_is_found(bench: Bench, run_pipeline, prometheus: Path, tmp_path: Path) -> None:
    port = choose_port("management", set())
    with run_pipeline(
        ops_metrics_port=str(port), ops_ledger_check_s="1", notifications_grace_window_s="0"
    ) as process:
        for number in range(20):
            await bench.publish(order_event(f"o-{number}"), invoice_event(f"o-{number}"))
        await bench.until_quiet(40)
        async with real_prometheus(tmp_path, [f"{HOST}:{port}"]) as found:
            await found.until('up{job="postorder"} == 1')
            await found.until("postorder_work_seconds{bottleneck='email'}", 40)
            await found.until("postorder_ledger_checked_timestamp_seconds > 0")
            names = {name: kind for name, kind in metric_names().items() if not name.startswith(ELSEWHERE)}
            told = {one["metric"]: one["type"] for one in await found.get("targets/metadata")}
            missing = {name for name, kind in names.items() if told.get(family(name, told)) != kind}
            assert missing == set()
            await until_all_have_samples(bench, found, names)
            work = await found.query("postorder_work_seconds")
            assert {one["metric"]["bottleneck"] for one in work} == {"intake", "shards", "sms", "email"}
            assert await found.query("postorder_ledger_difference != 0") == []
            assert await found.until("postorder:intake:difference == 0")
            assert await found.query("postorder:intake:difference != 0") == []
            groups = (await found.get("rules"))["groups"]
            broken = [rule for group in groups for rule in group["rules"] if rule["health"] == "err"]
            assert (len(groups) > 5, broken) == (True, [])
    assert process.exit_status == 0


async def until_all_have_samples(bench: Bench, found: RealPrometheus, names: dict[str, str]) -> None:
    """Publish on, because a stage that does nothing tells nothing of what it can do."""
    deadline = time.monotonic() + 30
    while empty := [
        name
        for name, kind in names.items()
        if name not in RARE and not await found.query(ASKED[kind].format(name))
    ]:
        assert time.monotonic() < deadline, f"no samples of {empty}"
        await bench.publish(order_event(f"o-{time.monotonic_ns()}"))


def family(name: str, told: dict[str, str]) -> str:
    """A counter's name with or without `_total`: the two formats differ."""
    return name if name in told else name.removesuffix("_total")
