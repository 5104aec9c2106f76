"""`postorder run --only api` as an operator meets it, by the how-to's own commands; and nothing leaks."""

import asyncio
import os
import re
import sys
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import aiohttp
import orjson
import psutil
import pytest
from commands import ROOT, postorder
from forwarding import forwarding
from real_stack import Bench, invoice_event, order_event

from loadtest.pipeline_process import PipelineProcess
from stack.ports import HOST, choose_port

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]

HOW_TO = ROOT / "docs/how-to/use-the-api.md"
SECRET = "canary-of-tokens-0123456789abcdefghij"
ADA = {"id": "c-1", "name": "Zdenka Kanarek", "phone": "+14155550197", "email": "zdenka.kanarek@example.com"}
LOST = {"id": "c-2", "name": "Zdenka Kanarek", "phone": "+14155550198", "email": "kanarek.lost@example.com"}
CANARIES = ("zdenka", "kanarek", "4155550197", "4155550198", SECRET)
BAD = b"[" + b" " * 9
NEVER_DELIVERED = {
    "faults": [{"on": "DATA_END", "to": LOST["email"], "action": "drop"}],
}


class Caller:
    """Asks by a token of the command line, as `ada`."""

    def __init__(self, http: aiohttp.ClientSession, port: int, config: Path) -> None:
        self._http = http
        self.base = f"http://{HOST}:{port}"
        arguments = ("api", "token", "--role", "admin", "--subject", "ada", "--ttl", "15m")
        made = postorder(*arguments, "--config", str(config), POSTORDER_API_SECRET=SECRET)
        assert made.returncode == 0, made.stderr
        self.token = made.stdout.strip()

    async def __call__(self, target: str, data: Any = None, *, method: str = "", status: int = 200) -> Any:
        """Return what is answered."""
        method = method or ("GET" if data is None else "POST")
        said = await self.text(method, target, status, json=data)
        return orjson.loads(said)

    async def text(self, method: str, target: str, status: int, **options: Any) -> str:
        headers = {"Authorization": f"Bearer {self.token}", **options.pop("headers", {})}
        async with self._http.request(method, self.base + target, headers=headers, **options) as answer:
            text = await answer.text()
            assert answer.status == status, (method, target, text)
            return text


@contextmanager
def api_process(run_pipeline: Any, port: int, ops_port: int) -> Iterator[PipelineProcess]:
    with run_pipeline(
        *("--only", "api"),
        api_port=str(port),
        api_secret=SECRET,
        ops_metrics_port=str(ops_port),
        ops_log_level="debug",
    ) as process:
        yield process


async def test_an_operator_finds_steers_and_mends_and_nothing_leaks(
    bench: Bench, settings_file: Path, run_pipeline: Any
) -> None:
    port, ops_port = choose_port("public", set()), choose_port("management", set())
    await bench.execute("TRUNCATE process_report, limit_override")
    await bench.smtp("behaviour", NEVER_DELIVERED)
    async with aiohttp.ClientSession() as http:
        settings = {"notifications_grace_window_s": "0", "effects_order_email_policy": "person"}
        with run_pipeline(**settings), api_process(run_pipeline, port, ops_port) as api:
            ask = Caller(http, port, settings_file)
            await bench.publish(order_event("o-1", customer=ADA), invoice_event("o-1"), BAD)
            await bench.publish(order_event("o-2", customer=LOST))
            await bench.until_true(lambda: ready(http, ops_port))
            await finds(ask, bench)
            await steers(ask, bench)
            await redrives_and_drops(ask, bench)
            await resolves(ask, bench)
            await says_who_gets_nothing(ask, bench)
            await asks_as_the_how_to_says(port, settings_file)
            replies = await probed(ask, http, ops_port)
            titles = "\n".join(psutil.Process(api.pid).cmdline())
        assert api.exit_status == 0
    audit = "\n".join(str(row) for row in await bench.rows("SELECT * FROM audit"))
    seen = {"the log": api.log.read_text(), "titles": titles, "replies and metrics": replies, "audit": audit}
    for where, text in seen.items():
        assert text, where
        lines = [line for line in text.splitlines() if any(one in line.lower() for one in CANARIES)]
        assert lines[:3] == [], where
    assert ask.token not in seen["the log"]
    assert "api.unauthorized" in seen["the log"]  # what was asked wrongly got as far


async def test_it_starts_while_a_shard_is_away_and_shows_it_when_it_is_back(
    bench: Bench, settings_file: Path, run_pipeline: Any
) -> None:
    """Who looks needs it most while something is wrong."""
    port, ops_port = choose_port("public", set()), choose_port("management", set())
    new_port = choose_port("management", {ops_port})
    address = urlsplit(bench.stack.shards[1].primary_dsn)
    elsewhere = urlunsplit(address._replace(netloc=f"{address.username}@{HOST}:{new_port}"))
    settings = {
        "api_port": str(port),
        "api_secret": SECRET,
        "ops_metrics_port": str(ops_port),
        "shard_shard1_primary": elsewhere,
    }
    async with aiohttp.ClientSession() as http:
        with run_pipeline("--only", "api", **settings) as api:
            await bench.until_true(lambda: ready(http, ops_port))
            ask = Caller(http, port, settings_file)

            async def reachable() -> list[bool]:
                return [shard["is_reachable"] for shard in (await ask("/v1/overview"))["shards"]]

            await bench.until(lambda: holds(reachable, [True, False]), "which shard is away")
            assert (await ask("/v1/quarantine"))["away"] == ["shard1"]
            assert "<title>Postorder</title>" in await ask.text("GET", "/console", 200)
            assert address.port is not None
            async with forwarding(new_port, address.port):
                await bench.until(lambda: holds(reachable, [True, True]), "the shard that is back is shown")
                assert (await ask("/v1/quarantine"))["away"] == []
        assert api.exit_status == 0


async def ready(http: aiohttp.ClientSession, ops_port: int) -> bool:
    try:
        async with http.get(f"http://{HOST}:{ops_port}/readyz") as answer:
            return answer.status == 200
    except aiohttp.ClientConnectionError:
        return False


async def finds(ask: Caller, bench: Bench) -> None:
    async def is_sent() -> bool:
        rows = await bench.rows("SELECT state FROM outbox WHERE order_id = 'o-1'")
        return len(rows) > 1 and all(row["state"] in {"accepted", "delivered"} for row in rows)

    await bench.until(is_sent, "both messages of the order are sent")
    order = await ask("/v1/orders/o-1")
    assert order["order"]["customer"]["name"] == ADA["name"]
    assert {message["channel"] for message in order["messages"]} == {"sms", "email"}
    assert [line["order_id"] for line in (await ask("/v1/customers/c-1"))["orders"]] == ["o-1"]
    assert len((await ask("/v1/customers/c-1/invoices"))["invoices"]) == 1
    assert (await ask("/v1/invoices/inv-o-1"))["invoices"]
    assert (await ask("/v1/orders/o-1/timeline"))["entries"]
    assert (await ask("/v1/kpis"))["orders"] == 2
    assert [shard["name"] for shard in (await ask("/v1/shards"))["shards"]] == ["shard0", "shard1"]
    assert (await ask("/v1/ring"))["slot_count"] == 4096
    assert (await ask("/v1/me"))["subject"] == "ada"


async def steers(ask: Caller, bench: Bench) -> None:
    """A limit set here counts in the process that sends."""

    async def rate() -> float:
        [pool] = [one for one in (await ask("/v1/pools"))["pools"] if one["channel"] == "sms"]
        return pool["rate_per_s"]

    normal = await rate()
    await ask("/v1/limits/twilio.rate_per_s", {"value": 7, "for_s": 600}, method="PUT")
    await bench.until(lambda: holds(rate, 7.0), "the process that sends goes by the limit")
    assert (await ask("/v1/overview"))["limits"][0]["set_by"] == "api ada"
    await ask("/v1/limits/twilio.rate_per_s", method="DELETE")
    await bench.until(lambda: holds(rate, normal), "the settings count again")


async def holds(look: Any, wanted: Any) -> bool:
    return await look() == wanted


async def redrives_and_drops(ask: Caller, bench: Bench) -> None:
    [held] = (await ask("/v1/quarantine"))["deliveries"]
    whole = await ask(f"/v1/quarantine/{held['quarantine_id']}")
    assert (whole["reason"], whole["body_base64"]) == (held["reason"], b64encode(BAD).decode())
    ids = {"ids": [held["quarantine_id"]]}
    assert (await ask("/v1/quarantine/redrive", ids))["done"] == 1

    async def is_back() -> bool:
        return len((await ask("/v1/quarantine"))["deliveries"]) == 1

    await bench.until(is_back, "what is still bad is held again")
    ids = {"ids": [one["quarantine_id"] for one in (await ask("/v1/quarantine"))["deliveries"]]}
    assert (await ask("/v1/quarantine/drop", ids))["done"] == 1


async def resolves(ask: Caller, bench: Bench) -> None:
    async def is_unknown() -> bool:
        return len((await ask("/v1/effects"))["effects"]) == 1

    await bench.until(is_unknown, "the mail of which nobody knows")
    [effect] = (await ask("/v1/effects"))["effects"]
    word = {"seen": "unknown", "to": "accepted", "because": "it is in the relay's log"}
    found = await ask(f"/v1/effects/{effect['effect_id']}/resolution", word)
    assert found["effect"]["state"] == "accepted"


async def says_who_gets_nothing(ask: Caller, bench: Bench) -> None:
    wish = {"recipient": ADA["phone"], "state": "out"}
    assert (await ask("/v1/recipients/say", wish))["state"] == "out"
    await bench.publish(order_event("o-3", customer=ADA))

    async def is_suppressed() -> bool:
        rows = await bench.rows("SELECT state FROM outbox WHERE order_id = 'o-3' AND channel = 'sms'")
        return [row["state"] for row in rows] == ["suppressed"]

    await bench.until(is_suppressed, "the next order's SMS is not sent")
    done = {(one["what"], one["outcome"]) for one in (await ask("/v1/audit"))["entries"][:20]}
    kinds = ("limits.set", "limits.remove", "quarantine.show", "quarantine.redrive", "quarantine.drop")
    assert done >= {(what, "done") for what in (*kinds, "effects.resolve", "recipients.say")}


async def asks_as_the_how_to_says(port: int, config: Path) -> None:
    """The block under "Ask", run by a shell as it is there, but for port and order."""
    block = re.search(r"## Ask\n\n```sh\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    assert block
    script = block[1].replace("8090", str(port)).replace("orders/1001", "orders/o-1")
    process = await asyncio.create_subprocess_exec(
        *("bash", "-euo", "pipefail", "-c", script),
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "POSTORDER_CONFIG": str(config),
            "POSTORDER_API_SECRET": SECRET,
        },
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(30):
        said, problem = await process.communicate()
    assert (process.returncode, problem) == (0, b"")
    assert said.count(b'"order_id":"o-1"') > 1


async def probed(ask: Caller, http: aiohttp.ClientSession, ops_port: int) -> str:
    """Return what is answered to who asks for people by name, number and address, and the metrics."""
    found = []
    for word in (ADA["email"], ADA["phone"].replace("+", "%2B"), "Zdenka%20Kanarek"):
        for place in ("orders", "customers", "invoices", "effects", "quarantine", "limits"):
            method = "PUT" if place == "limits" else "GET"
            found.append(await ask.text(method, f"/v1/{place}/{word}", 404, json={"value": 1}))
        found.append(await ask.text("GET", f"/v1/orders?who={word}", 404))
        found.append(await ask.text("GET", f"/v1/orders/o-1?token={word}", 400))
        found.append(await ask.text("GET", f"/v1/effects?state={word}", 400))
        found.append(await ask.text("GET", f"/v1/quarantine?since={word}", 400))
        found.append(await ask.text("POST", "/v1/recipients/say", 400, json={"recipient": word, "x": word}))
        found.append(await ask.text("POST", "/v1/recipients/look-up", 422, json={"recipient": f"<{word}"}))
        headers = {"Authorization": f"Bearer {word}.x.{SECRET}", "X-Forwarded-For": word, "User-Agent": word}
        found.append(await ask.text("GET", "/v1/me", 401, headers=headers))
    async with http.get(f"http://{HOST}:{ops_port}/metrics") as answer:
        found.append(await answer.text())
    assert "postorder_api_requests" in found[-1]
    return "\n".join(found)
