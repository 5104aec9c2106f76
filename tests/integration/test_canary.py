"""Personal data and secrets stay where they belong: a run of everything, with canaries in every place.

Good, refused, throttled, unknown, bounced and quarantined messages, invoices that cannot be had, requests
from outside that are not genuine; debug log level. Then every place where somebody might look is searched.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import psutil
import pytest
from aiohttp import web
from commands import postorder
from otlp_receiver import otlp_receiver
from real_stack import Bench, customer_event, invoice_event, order_event

from stack.ports import HOST, choose_port
from stack.state import load_state

pytestmark = [pytest.mark.integration, pytest.mark.timeout(180)]

NAME, STREET = "Zdenka Kanarek", "Kanarienweg"
PHONE = "+1415555019"  # and a digit
PERSONAL = ("zdenka", "kanarek", "kanarien", "415555019")
SECRETS = {
    "public_secret": "canary-of-links-0123456789abcdefghij",
    "public_bounce_secret": "whsec_Y2FuYXJ5LW9mLWJvdW5jZXMtMDEyMzQ1Njc4OQ==",
}
TRACES_TOKEN = "Bearer canary-of-traces-0123456789"
# Where the data themselves are kept.
HOMES: dict[str, tuple[str, ...]] = {
    "orders": ("customer_name", "email", "phone", "lines"),
    "customers": ("name", "email", "phone"),
    "invoices": ("document", "document_url", "filename"),
    "quarantine": ("body", "headers", "routing_key", "message_id"),
}


def who(digit: int, address: str) -> dict[str, str]:
    """A person, told from others by the last digit of the number and by the address."""
    return {"name": NAME, "phone": f"{PHONE}{digit}", "email": f"zdenka.kanarek.{address}@example.com"}


SMS_FAULTS = [
    {"on": "create", "to": f"{PHONE}1", "action": "status", "status": 400, "code": 21610},
    {"on": "create", "to": f"{PHONE}2", "action": "status", "status": 429, "retry_after": "1", "count": 1},
    {"on": "create", "to": f"{PHONE}3", "action": "accept_then_drop"},
    {"on": "create", "to": f"{PHONE}4", "action": "not_json"},
    {"on": "create", "to": f"{PHONE}5", "action": "status", "status": 400, "code": 21617},
]
MAIL_FAULTS = [
    {"on": "RCPT", "to": "zdenka.kanarek.no@example.com", "action": "reply", "code": 550,
     "text": "5.1.1 <zdenka.kanarek.no@example.com> unknown"},
    {"on": "RCPT", "to": "zdenka.kanarek.later@example.com", "action": "reply", "code": 451, "count": 1},
    {"on": "DATA_END", "to": "zdenka.kanarek.lost@example.com", "action": "drop"},
    {"on": "MAIL", "to": "zdenka.kanarek.busy@example.com", "action": "drop", "count": 1},
]  # fmt: skip
LINES = [{"sku": "K-1", "title": f"{STREET} 7", "quantity": 1, "unit_price": "74.40"}]


def events(document_host: str) -> list[Any]:
    """What upstream sends: valid events, and such that are not, with canaries in each field."""
    people = [
        who(0, "well"), who(1, "no"), who(2, "later"), who(3, "lost"), who(4, "busy"), who(5, "well"),
        {"name": NAME, "phone": "call 4155550196", "email": "zdenka kanarek@@example.com"},
    ]  # fmt: skip
    orders = [order_event(f"o-{n}", customer=person, lines=LINES) for n, person in enumerate(people)]
    conflict = {**orders[0], "data": {**orders[0]["data"], "total": "1.00"}}
    known = customer_event("c-9", name=NAME, phone=f"{PHONE}7", email="zdenka.kanarek.known@example.com")
    by_id = order_event("o-known", customer={"id": "c-9"}, lines=LINES)
    url = f"http://{document_host}/zdenka.kanarek/invoice.pdf?token=kanarek"
    return [
        *orders, orders[0], conflict, known, by_id,
        invoice_event("o-0", url=url),
        invoice_event("o-1", url="http://169.254.169.254/zdenka.kanarek"),
        order_event("o-bad", customer={**who(8, "bad"), "phone": [f"{PHONE}8"]}),
        order_event("o-long", customer={**who(8, "bad"), "name": NAME * 500}),
        {**order_event("o-type", customer=who(8, "bad")), "type": NAME},
        orjson.dumps(order_event("o-cut", customer=who(8, "bad")))[:-40],
        orjson.dumps(order_event("o-twice", customer=who(8, "bad"))).replace(b'"phone"', b'"email"'),
        f"{NAME} {PHONE}9".encode(),
        NAME.encode("utf-16"),
    ]  # fmt: skip


async def test_canaries_are_found_nowhere_else(bench: Bench, stack_folder: Path, run_pipeline) -> None:
    await bench.twilio("behaviour", {"faults": SMS_FAULTS})
    await bench.smtp("behaviour", {"faults": MAIL_FAULTS})
    port, metrics_port = choose_port("public", set()), choose_port("management", set())
    base_url = f"http://{HOST}:{port}"
    async with document_host() as host, otlp_receiver() as receiver:
        sent = events(host)
        with run_pipeline(
            ops_log_level="debug", ops_metrics_port=str(metrics_port), intake_document_hosts=host,
            notifications_grace_window_s="0", public_port=str(port), public_base_url=base_url, **SECRETS,
            traces_endpoint=receiver.endpoint, traces_sample_ratio="1", traces_authorization=TRACES_TOKEN,
        ) as process:  # fmt: skip
            for event in sent:
                await bench.publish(event, headers={"x-customer": NAME, "baggage": f"customer={NAME}"})
            await bench.publish(b"{}", routing_key=f"order.{NAME}", message_id=f"{PHONE}9")
            await bench.until_quiet(len(sent) + 1, timeout_s=60)
            titles = "\n".join(titles_of(process.pid, *bench.stack.pids.values()))
            replies = await probed(bench, base_url, f"http://{HOST}:{metrics_port}")
            # The end of the process is waited for without the event loop that the receiver needs.
            await receiver.until(lambda seen: bool(seen.named("send order_email")))
    assert process.exit_status == 0
    seen = {
        "the log": process.log.read_text(),
        "titles of processes": titles,
        "metrics and error replies": replies,
        "spans": b"\n".join(receiver.raw).decode("latin-1"),
        "tables": await tables(bench),
        "errors of commands": refused_by_commands(stack_folder),
        **logs_of_servers(stack_folder),
    }
    assert all(
        seen[where] for where in ("the log", "titles of processes", "metrics and error replies", "spans")
    )
    secrets = [*SECRETS.values(), TRACES_TOKEN, *load_state(stack_folder).secrets.values()]
    found = {where: lines_with(text, (*PERSONAL, *secrets)) for where, text in seen.items()}
    assert {where: lines[:3] for where, lines in found.items() if lines} == {}
    await check_every_way_was_gone(bench, seen["the log"])


async def check_every_way_was_gone(bench: Bench, log: str) -> None:
    """A canary that never got near a place proves nothing about it."""
    rows = await bench.rows("SELECT channel, state FROM outbox GROUP BY channel, state")
    assert {"accepted", "suppressed", "unknown"} <= {row["state"] for row in rows}
    assert {row["state"] for row in rows if row["channel"] == "sms"} >= {"failed"}
    held = {row["reason"] for row in await bench.rows("SELECT reason FROM quarantine")}
    assert {"malformed_json", "unknown_type", "invalid_data", "identity_conflict"} <= held
    assert "document_host_refused" in held
    assert await bench.rows("SELECT FROM effect_note") != []
    assert "notification.not_accepted" in log


def lines_with(text: str, canaries: Iterable[str]) -> list[str]:
    wanted = [canary.lower() for canary in canaries]
    return [line for line in text.splitlines() if any(canary in line.lower() for canary in wanted)]


# --- places -------------------------------------------------------------------------------------------


def titles_of(*pids: int) -> Iterator[str]:
    """Arguments and titles of processes and all that they have started."""
    for pid in pids:
        try:
            process = psutil.Process(pid)
            all_of_it = (process, *process.children(recursive=True))
        except psutil.NoSuchProcess:
            continue  # it has ended meanwhile
        for one in all_of_it:
            try:
                yield Path(f"/proc/{one.pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
            except (FileNotFoundError, ProcessLookupError):
                continue  # so has this one


async def probed(bench: Bench, public: str, metrics: str) -> str:
    """The metrics, and what the public listener answers to whoever is not genuine."""
    found = []
    form = {"From": f"{PHONE}9", "Body": NAME, "AccountSid": bench.stack.twilio.account_sid}
    async with aiohttp.ClientSession() as http:
        for path in ("metrics", "readyz", "livez", NAME, f"readyz?who={NAME}"):
            found.append(await answer(http.get(f"{metrics}/{path}")))
        for path in (NAME, f"unsubscribe/{NAME}", f"?who={NAME}"):
            found.append(await answer(http.get(f"{public}/{path}")))
        for path in ("twilio/inbound", "twilio/status/kanarek", "unsubscribe/kanarek", "mail/bounces", NAME):
            found.append(await answer(http.post(f"{public}/{path}", data=form)))
            json = {"json": form, "headers": {"X-Twilio-Signature": NAME, "webhook-id": NAME}}
            found.append(await answer(http.post(f"{public}/{path}?who={NAME}", **json)))
    assert "postorder_receipts" in found[0]
    assert '{"ready":true}' in found[1]
    return "\n".join(found)


async def answer(request: Any) -> str:
    async with request as reply:
        return f"{reply.status} {dict(reply.headers)}\n{await reply.text()}"


async def tables(bench: Bench) -> str:
    """All rows of all tables but for the columns that personal data belong into."""
    names = "SELECT relname FROM pg_stat_user_tables WHERE schemaname = 'public'"
    found = await bench.rows(names, shard="shard0")
    lines = []
    for table in sorted(row["relname"] for row in found):
        homes = list(HOMES.get(table, ()))
        rows = await bench.rows(f"SELECT (to_jsonb(t) - $1::text[])::text AS line FROM {table} t", homes)
        lines += [f"{table} {row['line']}" for row in rows]
    return "\n".join(lines)


def refused_by_commands(folder: Path) -> str:
    """What `postorder publish` says of events that are not valid, on a line each."""
    bad = order_event("o-bad", customer={**who(8, "bad"), "phone": [f"{PHONE}8"]})
    text = "\n".join([orjson.dumps(bad).decode(), f"{NAME} {PHONE}9"])
    done = postorder("publish", "-", "--config", str(folder / "postorder.toml"), text=text)
    assert done.returncode == 1
    return done.stderr


def logs_of_servers(folder: Path) -> dict[str, str]:
    """The logs of the stack's servers. They outlive this test, but only its canaries are looked for."""
    state = load_state(folder)
    paths = [path for path in Path(state.server_dir).rglob("*.log") if os.access(path, os.R_OK)]
    assert any("primary" in str(path) for path in paths)
    return {str(path): path.read_text(errors="replace") for path in paths}


class document_host:  # noqa: N801  # used as a function
    """A host of documents that has none."""

    async def __aenter__(self) -> str:
        async def refuse(_request: web.BaseRequest) -> web.Response:
            return web.Response(status=404, text=f"no document of {NAME}")

        self._runner = web.ServerRunner(web.Server(refuse))
        await self._runner.setup()
        port = choose_port("management", set())
        await web.TCPSite(self._runner, HOST, port).start()
        return f"{HOST}:{port}"

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()
