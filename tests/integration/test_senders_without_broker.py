"""Deployments give senders neither the broker's password nor a way to it: they must not need either."""

from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from ledger import Intake
from real_stack import Bench, order_event

pytestmark = pytest.mark.integration

NOBODY = "amqp://nobody@127.0.0.1:1/"


async def test_messages_are_sent_while_there_is_no_broker(
    bench: Bench, run_pipeline: Callable[..., AbstractContextManager[object]]
) -> None:
    await Intake(bench).write(order_event("o-1"))
    with run_pipeline("--only", "notifications", amqp_url=NOBODY, amqp_password="wrong"):

        async def sent() -> bool:
            return len(await bench.sms()) == 1

        await bench.until(sent, "the SMS", timeout_s=40.0)
