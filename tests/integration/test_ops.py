"""What a process of the real pipeline says on its ops port: before it is up, at work, draining, gone."""

import asyncio
import re
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from real_stack import Bench, order_event

from loadtest.pipeline_process import PipelineProcess
from stack.ports import HOST, choose_port

pytestmark = pytest.mark.integration


class Ops:
    def __init__(self) -> None:
        self.port = choose_port("management", set())

    async def ask(self, path: str) -> tuple[int, list[Any]]:
        async with aiohttp.ClientSession() as http, http.get(f"http://{HOST}:{self.port}/{path}") as reply:
            text = await reply.text()
            return reply.status, [orjson.loads(line) for line in text.splitlines()]

    async def until(self, path: str, is_so: Any, timeout_s: float = 15.0) -> tuple[int, list[Any]]:
        async with asyncio.timeout(timeout_s):
            while True:
                try:
                    if is_so(found := await self.ask(path)):
                        return found
                except aiohttp.ClientError:
                    pass  # not up yet
                await asyncio.sleep(0.05)


@pytest.fixture
def ops() -> Ops:
    return Ops()


async def test_a_process_that_drains_says_so_until_it_ends(bench: Bench, run_pipeline, ops: Ops) -> None:
    await bench.twilio("behaviour", {"latency_ms": 3000})
    with run_pipeline(ops_metrics_port=str(ops.port)) as process:
        assert await ops.until("readyz", lambda found: found[0] == 200) == (200, [{"ready": True}])
        await bench.publish(order_event("o-drained"))

        async def in_its_call() -> bool:
            return bool(await bench.rows("SELECT FROM outbox WHERE channel = 'sms' AND state = 'submitting'"))

        await bench.until(in_its_call, "the SMS is in its call")
        ending = asyncio.ensure_future(asyncio.to_thread(process.stop))
        status, lines = await ops.until("readyz", lambda found: found[0] == 503)
        assert (status, [line["cause"] for line in lines]) == (503, ["draining"])
        async with aiohttp.ClientSession() as http, http.get(f"http://{HOST}:{ops.port}/metrics") as page:
            assert (page.status, "postorder_ready 0.0" in await page.text()) == (200, True)
        assert (await ops.ask("livez"))[0] == 200
        await ending
    assert process.exit_status == 0
    with pytest.raises(aiohttp.ClientConnectorError):
        await ops.ask("readyz")


async def test_without_the_broker_each_queue_is_named(bench: Bench, run_pipeline, ops: Ops) -> None:
    nobody = f"amqp://guest@{HOST}:{choose_port('management', set())}/"
    with run_pipeline(
        "--only", "order-processed", ops_metrics_port=str(ops.port), amqp_url=nobody
    ) as process:
        status, lines = await ops.until("readyz", lambda found: found[1][0]["cause"] == "broker")
        assert status == 503
        assert {line["what"] for line in lines} == {"order-processed", "unroutable", "dead-letters"}
        assert {line["cause"] for line in lines} == {"broker"}
    assert process.exit_status == 0


async def test_while_no_shard_is_there_each_is_named(
    bench: Bench, settings_file: Path, tmp_path: Path, ops: Ops
) -> None:
    gone = choose_port("management", set())
    text = settings_file.read_text()
    away = settings_file.with_name("away.toml")  # beside it: password files are named relative to it
    away.write_text(re.sub(r'(primary = "[^"]*):\d+/', rf"\1:{gone}/", text))
    variables = {"POSTORDER_OPS_METRICS_PORT": str(ops.port)}
    try:
        with PipelineProcess(away, tmp_path / "away.log", variables) as process:
            status, lines = await ops.until("readyz", lambda found: len(found[1]) == 3)
            assert (status, [line["cause"] for line in lines]) == (503, ["starting", "primary", "primary"])
            assert [line["what"] for line in lines[1:]] == ["shard0", "shard1"]
            assert all("refused" in line["detail"] for line in lines[1:])
            assert (await ops.ask("livez"))[0] == 200
    finally:
        away.unlink()
    assert process.exit_status == 0
