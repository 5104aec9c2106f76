"""Quarantine over the API: shown to who may see it, on record; redriven, and given up."""

import json
from base64 import b64decode
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import pytest
from api_site import Api, running_api
from flow import Flow
from real_stack import Bench

from consumers.api.callers import Access

pytestmark = pytest.mark.integration


@pytest.fixture
async def api(bench: Bench) -> AsyncIterator[Api]:
    async with running_api(bench.settings, bench.cluster) as running:
        yield running


async def audited(api: Api, what: str) -> list[dict[str, Any]]:
    """Return what is on record of a kind, the latest first."""
    return (await api.get(f"/v1/audit?what={what}&limit=10", Access.ADMIN))["entries"]


async def held(bench: Bench, *bodies: bytes) -> None:
    flow = Flow(bench)
    await flow.processor.start()
    flow.give(*bodies)
    await flow.until_acknowledged(len(bodies))
    await flow.processor.stop()
    assert flow.crashes == []


async def test_a_delivery_in_quarantine_is_shown_redriven_and_dropped(api: Api, bench: Bench) -> None:
    await held(bench, b"<script>alert(1)</script>", b'{"name": "Ada Example"')
    listed = await api.get("/v1/quarantine")
    assert b"Ada" not in json.dumps(listed).encode()
    ids = [one["quarantine_id"] for one in listed["deliveries"]]
    assert (len(ids), listed["more"]) == (2, False)
    assert (await api.request("GET", f"/v1/quarantine/{ids[0]}")).status == 403
    bodies = {
        b64decode((await api.get(f"/v1/quarantine/{one}", Access.OPERATE))["body_base64"]) for one in ids
    }
    assert bodies == {b"<script>alert(1)</script>", b'{"name": "Ada Example"'}
    shown = [one for one in await audited(api, "quarantine.show") if one["target"] in ids]
    assert len(shown) == 4  # of two looks
    assert (await api.send("POST", "/v1/quarantine/redrive", {"ids": ids[:1]}))["done"] == 1
    refused = await api.request("POST", "/v1/quarantine/drop", access=Access.OPERATE, data={"ids": ids[1:]})
    assert refused.status == 403
    assert (await api.send("POST", "/v1/quarantine/drop", {"ids": ids}, Access.ADMIN))["done"] == 1
    assert (await api.get("/v1/quarantine"))["deliveries"] == []
    states = {
        state: (await api.get(f"/v1/quarantine?state={state}"))["deliveries"]
        for state in ("redriven", "dropped")
    }
    assert [states[state][0]["quarantine_id"] for state in states] == ids
    [done, *_] = await audited(api, "quarantine.drop")
    assert (done["outcome"], done["detail"]) == ("done", "1 of 2")
    assert (await api.request("GET", f"/v1/quarantine/{uuid4()}", access=Access.OPERATE)).status == 404


@pytest.mark.parametrize("what", ["redrive", "drop"])
async def test_each_id_of_a_hundred_is_on_record(api: Api, bench: Bench, what: str) -> None:
    """More than one entry can name: what came of each is beside the ids that it is about."""
    await held(bench, b"[1", b"[2", b"[3")
    there = [one["quarantine_id"] for one in (await api.get("/v1/quarantine"))["deliveries"]]
    ids = [there[0], *(str(uuid4()) for _ in range(97)), *there[1:]]
    assert (await api.send("POST", f"/v1/quarantine/{what}", {"ids": ids}, Access.ADMIN))["done"] == 3
    second_done, second, first_done, first = (await audited(api, f"quarantine.{what}"))[:4]
    assert [UUID(one) for entry in (first, second) for one in entry["detail"].split()] == [*map(UUID, ids)]
    assert [(one["outcome"], one["detail"]) for one in (first_done, second_done)] == [
        ("done", "1 of 60"),
        ("done", "2 of 40"),
    ]
    assert [one["target"] for one in (first, second)] == [
        f"60 deliveries, {UUID(ids[0]).hex} first",
        f"40 deliveries, {UUID(ids[60]).hex} first",
    ]
