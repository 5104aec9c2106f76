"""A rate holds for the installation, however many processes send."""

import pytest
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.control.report_board import ReportBoard

pytestmark = pytest.mark.integration

RATE, ORDERS = 10, 50


async def test_two_processes_that_send_keep_to_the_rate_together(bench: Bench, run_pipeline) -> None:
    await bench.execute("TRUNCATE process_report, limit_override")
    sending = {"sms_rate_per_s": str(RATE), "notifications_grace_window_s": "0"}
    board = ReportBoard(bench.cluster, SystemClock())
    with (
        run_pipeline("--only", "notifications", **sending) as first,
        run_pipeline("--only", "notifications", **sending) as second,
    ):

        async def both_count_both() -> bool:
            reports = [seen.report for seen in await board.read() if seen.report is not None]
            rates = [slot.rate_per_s for report in reports for pool in report.pools for slot in pool.slots]
            return rates.count(RATE / 2) == 2

        await bench.until(both_count_both, "each has half of the rate")
        with run_pipeline("--only", "order-processed"):
            await bench.publish(*(order_event(f"o-{number}") for number in range(ORDERS)))
            await bench.until_quiet(ORDERS, timeout_s=40)
        rows = await bench.rows(
            "SELECT claim_id, extract(epoch FROM accepted_at) AS at FROM outbox WHERE channel = 'sms'"
        )
        took_s = float(max(row["at"] for row in rows) - min(row["at"] for row in rows))
    assert (first.exit_status, second.exit_status) == (0, 0)
    assert len(await bench.sms()) == ORDERS
    # A message in hand for each at the start; by themselves they would take half of that.
    assert took_s >= (ORDERS - 4) / RATE
