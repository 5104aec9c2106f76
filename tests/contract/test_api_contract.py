"""The API does what its description says, and answers what is not in it: schemathesis asks, on shards."""

from pathlib import Path

import pytest
from api_description import REFERENCE
from api_site import Api, running_api
from ledger import Intake
from real_stack import Bench, invoice_event, order_event
from schemathesis_runs import schemathesis

from consumers.api.callers import Access

pytestmark = pytest.mark.integration

HOUR_S = 3600


async def asked(api: Api, folder: Path, *, examples: int, phases: str, timeout_s: float) -> None:
    status, said = await schemathesis(
        REFERENCE / "openapi.json",
        f"http://127.0.0.1:{api.port}",
        api.token(Access.ADMIN, lifetime_s=HOUR_S),
        folder,
        examples=examples,
        phases=phases,
        timeout_s=timeout_s,
    )
    assert status == 0, said


async def some_rows(bench: Bench) -> None:
    """Have something to be found."""
    await Intake(bench).write(order_event("0"))
    await Intake(bench).write(invoice_event("0", invoice_id="0"))


async def test_a_few_requests_of_each_kind(bench: Bench, tmp_path: Path) -> None:
    await some_rows(bench)
    async with running_api(bench.settings, bench.cluster, stream_s=0.05) as api:
        await asked(api, tmp_path, examples=2, phases="fuzzing", timeout_s=60)


@pytest.mark.contract
@pytest.mark.timeout(600)
async def test_every_bound_and_many_requests_of_each_kind(bench: Bench, tmp_path: Path) -> None:
    await some_rows(bench)
    async with running_api(bench.settings, bench.cluster, stream_s=0.05) as api:
        await asked(api, tmp_path, examples=20, phases="examples,coverage,fuzzing", timeout_s=560)
