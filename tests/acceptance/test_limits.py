"""`postorder limits` and `postorder audit`: an operator slows a provider down while everything runs."""

import json
import time
from pathlib import Path
from typing import Any

import pytest
from commands import postorder
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.control.report_board import ReportBoard
from pipeline.storage.control import Report

pytestmark = pytest.mark.acceptance


def lines(*arguments: str, config: Path) -> list[dict[str, Any]]:
    done = postorder(*arguments, "--json", "--config", str(config))
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


async def reports(bench: Bench) -> list[Report]:
    found = await ReportBoard(bench.cluster, SystemClock()).read()
    return [seen.report for seen in found if seen.report is not None and seen.age_s < 5]


async def test_a_provider_is_slowed_down_and_let_go_while_everything_runs(
    bench: Bench, settings_file: Path, run_pipeline
) -> None:
    config = ("--config", str(settings_file))
    await bench.execute("TRUNCATE process_report, limit_override")
    done = postorder("limits", "set", "twilio.rate_per_s", "1", *config)
    assert (done.returncode, done.stderr) == (0, "")
    with run_pipeline(notifications_grace_window_s="0"):

        async def is_applied() -> bool:
            return [limit.applied for report in await reports(bench) for limit in report.limits] == [1.0]

        await bench.until(is_applied, "a process that has just started goes by the limit")
        began = time.monotonic()
        await bench.publish(*(order_event(f"o-{number}") for number in range(30)))

        async def mails_are_sent() -> bool:
            return len(await bench.mails()) == 30

        await bench.until(mails_are_sent, "the other channel is not slowed down")
        sent, took_s = len(await bench.sms()), time.monotonic() - began
        assert sent <= 2 + took_s
        [rate] = [one for one in lines("limits", "list", config=settings_file) if one["applied"]]
        assert (rate["range"]["key"], rate["override"]["value"]) == ("twilio.rate_per_s", 1)
        assert (rate["applied"], rate["processes"]) == (1, 1)
        [pool] = [pool for report in await reports(bench) for pool in report.pools if pool.channel == "sms"]
        assert pool.slots[0].rate_per_s == 1.0

        lifted = time.monotonic()
        assert postorder("limits", "remove", "twilio.rate_per_s", *config).returncode == 0
        status = await bench.until_quiet(30)
        assert time.monotonic() - lifted < 10  # at one a second it would take half a minute
        assert status.accounting.balances
        assert len(await bench.sms()) == 30
    assert await reports(bench) == []  # who ends takes its report along
    what = [entry["what"] for entry in lines("audit", "--limit", "4", config=settings_file)]
    assert what == ["limits.remove", "limits.remove", "limits.set", "limits.set"]


async def test_what_cannot_be_set_is_refused_with_what_can(bench: Bench, settings_file: Path) -> None:
    config = ("--config", str(settings_file))
    before = lines("audit", config=settings_file)
    for key, value, problem in (
        ("nobody.concurrency", "8", "is no limit: choose from twilio.concurrency"),
        ("twilio.concurrency", "100000", "goes from "),
        ("twilio.rate_per_s", "0", "from 0.01 to"),
        ("twilio.rate_per_s", "nan", "not nan"),
    ):
        done = postorder("limits", "set", key, value, *config)
        assert done.returncode == 2
        assert problem in done.stderr
    for arguments, problem in (
        (("set", "twilio.concurrency", "8", "--for-s", "nan"), "Invalid value for '--for-s'"),
        (("remove", "nobody.rate_per_s"), "'nobody.rate_per_s' is no limit: choose from twilio.concurrency"),
    ):
        done = postorder("limits", *arguments, *config)
        assert (done.returncode, done.stdout) == (2, "")
        assert problem in done.stderr
    assert lines("audit", config=settings_file) == before
    assert await bench.rows("SELECT 1 FROM limit_override WHERE key LIKE 'nobody%'") == []
