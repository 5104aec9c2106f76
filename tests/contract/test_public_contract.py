"""The public listener does what its description says, asked by schemathesis, with and without signatures."""

import json
from pathlib import Path
from typing import Any

import pytest
from api_description import REFERENCE
from public_site import Remembered, Site, public_settings, running_site
from relay_reports import TOPIC, sendgrid_key
from schemathesis_runs import schemathesis
from signing_gateway import signing_gateway

from consumers.public.services import public_routes
from pipeline.clock import SystemClock

DESCRIPTION = REFERENCE / "public-openapi.json"
ANSWERS = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "unsupported_method",
    "allow_header_conformance",
)
RELAYS: Any = {"sendgrid_keys": (sendgrid_key(),), "sns_topics": (TOPIC,)}


async def asked(site: Site, url: str, folder: Path, *, examples: int, phases: str, timeout_s: float) -> None:
    status, said = await schemathesis(
        DESCRIPTION, url, "", folder, examples=examples, phases=phases, checks=ANSWERS, timeout_s=timeout_s
    )
    assert status == 0, said


@pytest.mark.contract
@pytest.mark.timeout(600)
async def test_many_requests_that_are_genuine(tmp_path: Path) -> None:
    async with running_site(**RELAYS, webhooks={"rate_per_s": 10_000.0, "burst": 10_000}) as site:
        async with signing_gateway(site) as url:
            await asked(site, url, tmp_path, examples=100, phases="coverage,fuzzing", timeout_s=560)
        taken = site.taken
        assert all((taken.words, taken.recipients, taken.unsubscribed, taken.bounces))  # it got that far


@pytest.mark.contract
@pytest.mark.timeout(600)
async def test_many_requests_that_are_not_genuine_change_nothing(tmp_path: Path) -> None:
    async with running_site(**RELAYS) as site:
        url = f"http://127.0.0.1:{site.port}"
        await asked(site, url, tmp_path, examples=50, phases="coverage,fuzzing", timeout_s=560)
        taken = site.taken
        assert not any((taken.words, taken.recipients, taken.unsubscribed, taken.bounces, taken.events))


def test_each_route_is_described_and_no_other() -> None:
    found = json.loads(DESCRIPTION.read_text(encoding="utf-8"))["paths"]
    described = {(method.upper(), path) for path, item in found.items() for method in item}
    served = {
        (method, path)
        for route in public_routes(public_settings(**RELAYS), Remembered().sinks, SystemClock())
        for path in route.paths
        for method in route.http_methods
    }
    assert {(method, path.replace(":str}", "}")) for method, path in served} == described
