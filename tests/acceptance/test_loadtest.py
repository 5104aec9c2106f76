"""`postorder loadtest` against a pipeline that runs: seen from outside, adding up, without personal data."""

import asyncio
import json
import re
from pathlib import Path

import msgspec
import pytest
from commands import postorder
from jsonschema import Draft202012Validator
from real_stack import Bench

from consumers.topology import WORK_QUEUES
from loadtest.scenarios.report import Report, report_schema

pytestmark = pytest.mark.acceptance

BOUNDS = ("steady.committed.p99_ms<=10000", "steady.sms_accepted.p99_ms<=30000")


async def test_a_steady_run_is_measured_and_adds_up(
    bench: Bench, settings_file: Path, run_pipeline, tmp_path: Path
) -> None:
    thresholds = [word for bound in BOUNDS for word in ("--threshold", bound)]

    async def consuming() -> bool:
        return all(queue.consumers for queue in (await bench.status()).queues if queue.name in WORK_QUEUES)

    options = ["--rate", "30", "--seconds", "5", "--out", str(tmp_path), "--config", str(settings_file)]
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.until(consuming, "the pipeline consumes")
        done = await asyncio.to_thread(postorder, "loadtest", "run", "steady", *options, *thresholds)
    assert done.returncode == 0, done.stdout + done.stderr
    content = (tmp_path / "steady.json").read_bytes()
    Draft202012Validator(report_schema()).validate(json.loads(content))
    report = msgspec.json.decode(content, type=Report)
    assert report.passed
    sums = report.conservation
    status = await bench.status()
    assert sums.published == status.accounting.events
    assert (sums.missing, sums.orders_off, sums.sent_twice, sums.unaccepted) == (0, 0, 0, 0)
    orders = sum(phase.orders for phase in report.phases)
    assert orders == status.totals["orders"] == (await bench.twilio("health"))["total"]
    [steady] = [phase for phase in report.phases if phase.measured]
    ways = {
        name: steady.latencies[name]
        for name in ("confirmed", "committed", "replica", "sms_accepted", "mail_accepted")
    }
    for latency in ways.values():
        assert (latency.count, latency.missing) == (steady.orders, 0)
    # Each is seen after the one before it.
    assert ways["confirmed"].p50_ms > 0
    assert ways["committed"].p50_ms < ways["sms_accepted"].p50_ms
    assert ways["committed"].p50_ms <= ways["replica"].p50_ms + report.resolution_ms
    page = (tmp_path / "steady.html").read_text()
    assert "Passed" in page
    for text in (page, content.decode(), done.stdout, done.stderr):
        assert not re.search(r"\+49152\d|@example\.com", text)
