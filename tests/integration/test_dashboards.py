"""Every panel's query is asked of a real Prometheus that scrapes a pipeline at work, and finds data."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import pytest
from grafana_boards import Asked, interpolated, queries
from moving_shards import NEW, Moving
from otlp_receiver import otlp_receiver
from public_site import SECRET
from real_prometheus import RealPrometheus, prometheus_program, real_prometheus
from real_stack import customer_event, invoice_event, order_event

from loadtest.pipeline_process import PipelineProcess
from stack.ports import HOST, choose_port

pytestmark = pytest.mark.integration

# What has no data here, and why. These queries are asked all the same, and must be taken.
QUIET = {
    "ALERTS{": "no alert need be pending in so short a time",
    "} == 0)": "all are ready, no shard is without a primary",
    ") == 0)": "no queue is without a consumer",
    "postorder_spend_held": "there is no limit of spend",
    "postorder_amqp_reconnects_total": "the broker is always there",
    'outcome="moved"': "no batch need be caught by a move",
    "postorder_write_failures_total": "no transaction is repeated",
    "postorder_parked_total": "no shard is away",
    "postorder_stale_receipts_total": "no claim is lost",
    "postorder_held_back_total": "by chance: what was claimed when the provider asked for a pause",
    "postorder_allocator_decisions_total": "a worker is enough",
    "postorder_spans_dropped_total": "the receiver takes all",
    "rabbitmq_": "of RabbitMQ's own plugin, which the local stack does not load",
}
ORDERS = 20
PHONE = "+1415555012"
FAULTS = [
    {"on": "create", "to": f"{PHONE}4", "action": "status", "status": 400, "code": 21610},
    {"on": "create", "to": f"{PHONE}5", "action": "status", "status": 429, "retry_after": "3", "count": 1},
    {"on": "create", "to": f"{PHONE}6", "action": "drop_before", "count": 1},
]
ABROAD = "+4915112345678"


@pytest.fixture
def program() -> Path:
    return prometheus_program("prometheus")


@contextmanager
def pipeline(moving: Moving, folder: Path, port: int, **settings: str) -> Iterator[PipelineProcess]:
    """A supervisor on `port` with a worker that has every role on the next one."""
    variables = {f"POSTORDER_{name.upper()}": value for name, value in settings.items()}
    variables["POSTORDER_OPS_METRICS_PORT"] = str(port)
    with PipelineProcess(moving.config, folder / "pipeline.log", variables, ("--workers", "auto")) as process:
        yield process


@pytest.fixture
async def settings() -> AsyncIterator[dict[str, str]]:
    public, api = choose_port("public", set()), choose_port("api", set())
    async with otlp_receiver() as receiver:
        yield {
            "notifications_grace_window_s": "0",
            "ops_ledger_check_s": "1",
            "public_port": str(public),
            "public_base_url": f"http://{HOST}:{public}",
            "public_secret": SECRET,
            "api_port": str(api),
            "api_secret": SECRET * 2,
            "traces_endpoint": receiver.endpoint,
            "traces_sample_ratio": "1",
            "traces_interval_s": "0.1",
            "rules_sms_countries": "US",
            "effects_ask_after_s": "5",
            "notifications_lease_s": "3",
            "sms_timeout_s": "1",
            "email_timeout_s": "1",
            "sms_connect_timeout_s": "1",
            "documents_timeout_s": "1",
            "allocator_workers_max": "1",
        }


async def test_every_panel_finds_data(
    moving: Moving, settings: dict[str, str], program: Path, tmp_path: Path
) -> None:
    port, moves = choose_port("management", set()), choose_port("management", set())
    targets = [f"{HOST}:{one}" for one in (port, port + 1, moves)]
    await moving.bench.twilio("behaviour", {"delivery": {"delay_ms": 10}, "faults": FAULTS})
    with pipeline(moving, tmp_path, port, **settings) as process:
        async with real_prometheus(tmp_path, targets, interval="500ms") as found:
            await found.until("postorder_ready == 1", 30)
            process.check()
            await publish_all_sorts(moving)
            async with asyncio.TaskGroup() as group:
                group.create_task(add_a_shard(moving, moves))
                group.create_task(until_all_have_data(moving, found, int(settings["api_port"])))
    assert process.exit_status == 0


async def publish_all_sorts(moving: Moving) -> None:
    """What is stored, what is not, what is sent, what may not be."""
    bench = moving.bench
    for number in range(ORDERS):
        await bench.publish(order_event(f"o-{number}"), invoice_event(f"o-{number}"))
    await bench.publish(customer_event("c-1"), b"no event", routing_key="order.processed")
    for number in (f"{PHONE}4", f"{PHONE}5", f"{PHONE}6", ABROAD):
        customer = {"id": f"c-{number}", "name": "Ada", "email": "a@example.com", "phone": number}
        await bench.publish(order_event(f"o-{number}", customer=customer))


async def ask_the_api(port: int) -> None:
    async with aiohttp.ClientSession() as http, http.get(f"http://{HOST}:{port}/v1/orders/o-1") as answer:
        assert answer.status == 401


async def add_a_shard(moving: Moving, port: int) -> None:
    """Move a third of the slots, with metrics: some seconds, in which Prometheus looks twice a second."""
    command = [sys.executable, "-m", "consumers", "shards", "add", NEW, "--yes", "--metrics-port", str(port)]
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--config", str(moving.config)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


async def until_all_have_data(moving: Moving, found: RealPrometheus, api_port: int) -> None:
    """Work on until every panel has data: a stage that does nothing tells nothing of what it can do."""
    deadline = time.monotonic() + 60
    wanted = set(queries())
    while wanted := {asked for asked in wanted if not await has_data(found, asked)} - quiet(wanted):
        if time.monotonic() > deadline:
            pytest.fail("\n".join(["no data:", *sorted(f"{asked.name}: {asked.expr}" for asked in wanted)]))
        await moving.bench.publish(order_event(f"o-{time.monotonic_ns()}"))
        await ask_the_api(api_port)


def quiet(wanted: set[Asked]) -> set[Asked]:
    return {asked for asked in wanted if any(word in asked.expr for word in QUIET)}


async def has_data(found: RealPrometheus, asked: Asked) -> bool:
    """Ask as Grafana does; an error of Prometheus fails the test. NaN is no data, nor is 0 for want of it."""
    expr = interpolated(asked.expr, interval="20s").removesuffix(" or vector(0)")
    if asked.is_instant:
        return any(one["value"][1] != "NaN" for one in await found.query(expr))
    until = time.time()
    course = await found.get("query_range", query=expr, start=f"{until - 300}", end=f"{until}", step="1")
    return any(value != "NaN" for one in course["result"] for _, value in one["values"])
