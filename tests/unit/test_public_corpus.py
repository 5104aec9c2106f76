"""Every request of the corpus is answered as it says, takes effect as it says, and tells nobody anything."""

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from public_requests import cases, request_of
from public_site import Site, parse_reply, running_site

# A word of the request that no answer may repeat: neither values nor what a parser says of them.
TOLD = (b"14155550123", b"AC1111", b"Expected", b"Traceback", b"litestar", b"uvicorn", b"python")

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def site() -> AsyncIterator[Site]:
    async with running_site() as running:
        yield running


def ids(case: dict[str, Any]) -> str:
    return f"{case['item']} {case['what']}"


async def test_the_corpus_has_a_name_for_each_case() -> None:
    names = [ids(case) for case in cases()]
    assert len(names) == len(set(names)) >= 100


@pytest.mark.parametrize("case", cases(), ids=ids)
async def test_a_request_of_the_corpus(
    case: dict[str, Any], site: Site, capfd: pytest.CaptureFixture[str]
) -> None:
    taken = site.taken
    for remembered in (taken.words, taken.recipients, taken.unsubscribed, taken.bounces):
        remembered.clear()
    raw = await site.raw(request_of(case, site))
    reply = parse_reply(raw)
    assert reply.status == case["expect"], raw[:200]
    takes = len(taken.words) + len(taken.recipients) + len(taken.unsubscribed) + len(taken.bounces)
    assert takes == case.get("takes", 1 if 200 <= case["expect"] < 300 else 0)
    assert not [word for word in TOLD if word.lower() in raw.lower()]
    assert "14155550123" not in "".join(capfd.readouterr())
    if reply.status >= 400 and not reply.headers["content-type"].startswith("text/html"):
        assert reply.headers["content-type"] == "application/problem+json"
        assert reply.body.startswith(b'{"type":"about:blank","title":')
    assert "server" not in reply.headers
