"""The API on real shards: what commands show and do, over HTTP, by role and on record."""

import json
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from api_site import Api, problem_of, running_api
from ledger import Intake, Ledger
from real_stack import Bench, customer_event, invoice_event, order_event

from consumers.api.callers import Access
from consumers.api.overview import Overview
from consumers.status import Status
from pipeline.storage.control import ProcessName, Report

pytestmark = pytest.mark.integration

ODD = "gid://shop/Order/1?#%2F"
ODD_QUOTED = "gid:%2F%2Fshop%2FOrder%2F1%3F%23%252F"
PERSONAL = (b"Ada Example", b"+14155550123", b"a-1@example.com", b"c-1@example.com", b"invoice.pdf")


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[Api]:
    async with running_api(bench.settings, bench.cluster) as running:
        yield running


@pytest.fixture
async def orders(bench: Bench) -> None:
    """An order with its invoice, another order of the same customer, an odd one, and the customer."""
    events = [
        order_event("a-1"),
        invoice_event("a-1"),
        order_event("a-2", processed_at="2026-11-20T11:15:00+01:00"),
        order_event(ODD, customer={"id": "c-2", "email": "x@example.com"}),
        customer_event("c-1"),
    ]
    intake = Intake(bench)
    for event in events:
        await intake.write(event)


async def audited(api: Api, what: str) -> list[dict[str, Any]]:
    """Return what is on record of a kind, the latest first."""
    return (await api.get(f"/v1/audit?what={what}&limit=10", Access.ADMIN))["entries"]


# --- looking ----------------------------------------------------------------------------------------


async def test_an_order_with_its_invoices_and_messages(api: Api, orders: None) -> None:
    found = await api.get("/v1/orders/a-1")
    assert found["order"]["order_id"] == "a-1"
    assert [invoice["invoice_id"] for invoice in found["invoices"]] == ["inv-a-1"]
    assert sorted(message["kind"] for message in found["messages"]) == ["order_email", "order_sms"]
    assert found["served"][0]["shard"] in {"shard0", "shard1"}
    again = await api.get(f"/v1/orders/a-1?token={found['tokens'][0]}&consistency=session&mode=primary")
    assert again["served"][0]["role"] == "primary"


async def test_personal_data_is_cut_short_for_who_only_looks(api: Api, orders: None) -> None:
    for path in (
        "orders/a-1",
        "orders/a-1/timeline",
        "customers/c-1",
        "customers/c-1/invoices",
        "invoices/inv-a-1",
    ):
        reply = await api.request("GET", f"/v1/{path}")
        assert reply.status == 200, reply
        assert [text for text in PERSONAL if text in reply.body] == [], path
    customer = (await api.get("/v1/orders/a-1"))["order"]["customer"]
    assert (customer["name"], customer["email"], customer["phone"]) == ("A…", "a…@example.com", "…123")
    whole = (await api.get("/v1/orders/a-1", Access.OPERATE))["order"]["customer"]
    assert (whole["name"], whole["email"]) == ("Ada Example", "a-1@example.com")
    assert (await api.get("/v1/orders/a-1/timeline", Access.OPERATE))["order"]["phone"] == "+14155550123"
    assert (await api.get("/v1/invoices/inv-a-1", Access.OPERATE))["invoices"][0]["filename"] == "invoice.pdf"


async def test_any_id_can_be_asked_for(api: Api, orders: None) -> None:
    assert (await api.get(f"/v1/orders/{ODD_QUOTED}"))["order"]["order_id"] == ODD
    assert (await api.get(f"/v1/orders/{ODD_QUOTED}/timeline"))["order"]["order_id"] == ODD
    for target in ("orders/%27%20OR%201=1--", "orders/..", "invoices/%25", "customers/%F0%9F%92%A5"):
        reply = await api.request("GET", f"/v1/{target}")
        assert reply.status == 404, target
        problem_of(reply)


async def test_a_customer_s_orders_and_invoices(api: Api, orders: None) -> None:
    found = await api.get("/v1/customers/c-1")
    assert [order["order_id"] for order in found["orders"]] == ["a-1", "a-2"]
    assert (found["more"], found["opted_out"], found["person"]["id"]) == (False, [], "c-1")
    assert (await api.get("/v1/customers/c-1?limit=1"))["more"] is True
    found = await api.get("/v1/customers/c-1/invoices")
    assert [invoice["invoice_id"] for invoice in found["invoices"]] == ["inv-a-1"]


async def test_a_timeline(api: Api, orders: None) -> None:
    entries = (await api.get("/v1/orders/a-1/timeline"))["entries"]
    assert {"stored", "owed"} <= {entry["what"] for entry in entries}
    assert [entry["at"] for entry in entries] == sorted(entry["at"] for entry in entries)


async def test_the_overview_and_its_parts(api: Api, bench: Bench, orders: None) -> None:
    shard = bench.cluster["shard0"]
    process = ProcessName("h:1:1.0", "h", 1, shard_started(), ("notifications",))
    await shard.control.report(process, Report(epoch=1, loop_lag_s=0.01))
    overview = msgspec.convert(await api.get("/v1/overview"), Overview)
    assert overview.problems == ()
    assert overview.kpis.orders == 3
    assert [stage.name for stage in overview.stages] == [
        "broker",
        "intake",
        "shards",
        "outbox",
        "sms",
        "email",
    ]
    assert [one.name for one in overview.shards] == ["shard0", "shard1"]
    assert all(one.is_reachable and one.replicas for one in overview.shards)
    assert sum(one.slots for one in overview.shards) == 4096
    assert sum(one.due for one in overview.shards) >= 3  # the SMS; mails wait for the grace window
    assert [one.process_id for one in overview.processes] == ["h:1:1.0"]
    assert {queue.name for queue in overview.queues} >= {"order-processed", "invoice-generated"}
    assert await api.get("/v1/kpis") == {"orders": 3, "invoices": 1, "sms": 0, "email": 0}
    status = msgspec.convert(await api.get("/v1/status"), Status)
    assert status.accounting.balances
    views = await api.get("/v1/shards")
    assert [one["slots"] for one in views["shards"]] == [one.slots for one in overview.shards]
    await shard.control.forget(process.process_id)


def shard_started() -> Any:
    from datetime import UTC, datetime  # noqa: PLC0415

    return datetime(2026, 11, 21, tzinfo=UTC)


async def test_the_ring_covers_each_slot_once(api: Api, bench: Bench) -> None:
    ring = await api.get("/v1/ring")
    owners = [
        ring["shards"][arc["shard"]] for arc in ring["arcs"] for _ in range(arc["first"], arc["last"] + 1)
    ]
    assert tuple(owners) == bench.cluster.shard_map.owners
    assert [arc["first"] for arc in ring["arcs"][1:]] == [arc["last"] + 1 for arc in ring["arcs"][:-1]]
    assert ring["epoch"] == bench.cluster.shard_map.epoch


async def test_the_description_is_served(api: Api) -> None:
    found = await api.get("/v1/openapi.json")
    assert found["openapi"].startswith("3.1")
    assert "/v1/orders/{order_id}" in found["paths"]


# --- acting -----------------------------------------------------------------------------------------


async def test_an_unknown_message_is_resolved_once_and_on_record(api: Api, bench: Bench) -> None:
    await Ledger(bench).unknown(1)
    [effect] = (await api.get("/v1/effects"))["effects"]
    path = f"/v1/effects/{effect['effect_id']}"
    body = {
        "seen": "unknown",
        "to": "accepted",
        "because": "seen in the provider's log",
        "provider_id": "SM1",
    }
    assert (await api.request("POST", f"{path}/resolution", data=body)).status == 403
    found = await api.send("POST", f"{path}/resolution", body)
    assert found["effect"]["state"] == "accepted"
    assert any(entry["by"] == "api tester" for entry in found["entries"])
    reply = await api.request("POST", f"{path}/resolution", access=Access.OPERATE, data=body)
    assert (reply.status, problem_of(reply)["detail"]) == (409, "it is accepted by now")
    done, begun = (await audited(api, "effects.resolve"))[:2]
    assert (begun["outcome"], done["outcome"]) == ("begun", "done")
    assert (done["actor"], done["target"]) == ("api tester", effect["effect_id"])
    body = {**body, "seen": "accepted", "to": "pending"}
    reply = await api.request("POST", f"{path}/resolution", access=Access.OPERATE, data=body)
    assert reply.status == 409
    assert (await audited(api, "effects.resolve"))[0]["outcome"] == "refused"
    assert (await api.request("GET", f"/v1/effects/{uuid4()}")).status == 404


async def test_a_limit_is_set_within_its_bounds_and_taken_off(api: Api) -> None:
    limits = {one["key"]: one for one in (await api.get("/v1/limits"))["limits"]}
    limit = limits["twilio.concurrency"]
    assert limit["value"] is None
    reply = await api.request(
        "PUT", "/v1/limits/twilio.concurrency", access=Access.OPERATE, data={"value": 1e5}
    )
    assert reply.status == 422
    assert problem_of(reply)["detail"] == f"value: must be from {limit['floor']:g} to {limit['ceiling']:g}"
    changed = await api.send("PUT", "/v1/limits/twilio.concurrency", {"value": limit["floor"], "for_s": 60})
    assert changed["limit"]["value"] == limit["floor"]
    assert changed["limit"]["set_by"] == "api tester"
    shown = {one["key"]: one for one in (await api.get("/v1/limits"))["limits"]}["twilio.concurrency"]
    assert 50 < shown["left_s"] <= 60
    off = await api.request("DELETE", "/v1/limits/twilio.concurrency", access=Access.OPERATE)
    assert json.loads(off.body)["limit"]["value"] is None
    assert (await audited(api, "limits.remove"))[0]["outcome"] == "done"
    reply = await api.request("PUT", "/v1/limits/nothing", access=Access.OPERATE, data={"value": 1})
    assert reply.status == 404


async def test_consent_is_looked_up_and_said_without_a_number_in_a_url_or_on_record(api: Api) -> None:
    number = "+4930901820"
    found = await api.send("POST", "/v1/recipients/look-up", {"recipient": number})
    assert (found["channel"], found["state"]) == ("sms", None)
    found = await api.send("POST", "/v1/recipients/say", {"recipient": number, "state": "out"})
    assert (found["state"], found["reason"]) == ("out", "operator")
    entries = await audited(api, "recipients.say")
    assert number not in json.dumps(entries)
    assert found["recipient_key"] in entries[0]["target"]
    assert (await api.send("POST", "/v1/recipients/say", {"recipient": number, "state": "in"}))[
        "state"
    ] == "in"
    for wrong in ("0190", "ada", "a@b@c", "+1900555 0100; DROP"):
        reply = await api.request(
            "POST", "/v1/recipients/look-up", access=Access.OPERATE, data={"recipient": wrong}
        )
        assert reply.status == 422, wrong
        assert wrong.encode() not in reply.body


async def test_the_record_is_read_page_by_page(api: Api, bench: Bench) -> None:
    for number in range(3):
        await api.send("POST", "/v1/recipients/say", {"recipient": f"p{number}@example.com", "state": "out"})
    seen, place = [], ""
    while place is not None and len(seen) < 6:
        page = await api.get(
            f"/v1/audit?limit=2&what=recipients.say{place and '&before=' + place}", Access.ADMIN
        )
        seen += [entry["entry_id"] for entry in page["entries"]]
        place = page["next"]
    assert len(set(seen)) == 6
    for wrong in ("x", "2026-11-21T10:00:00Z~", "2026~" + "f" * 36, "2026-11-21T10:00:00~" + str(uuid4())):
        assert (await api.request("GET", f"/v1/audit?before={wrong}", access=Access.ADMIN)).status == 400
