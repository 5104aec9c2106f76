"""Every route is closed but to who may use it. A walk over all of them, without a database."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from api_description import application
from api_site import Api, problem_of, running_api
from litestar import Litestar, get
from litestar.routes import HTTPRoute

from consumers.api.callers import Access

SCHEMA = json.loads((Path(__file__).parents[2] / "docs/reference/openapi.json").read_text())
LIBRARY_S = {"/v1/schema", "/v1/schema/{path:str}", "/v1/schema/openapi.json"}


ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Api]:
    async with running_api() as running:
        yield running


def handlers(site: Litestar) -> Iterator[tuple[str, str, Any]]:
    for route in site.routes:
        assert isinstance(route, HTTPRoute), route
        for method, (handler, _) in route.route_handler_map.items():
            yield route.path, method, handler


def operations() -> Iterator[tuple[str, str, Access]]:
    for path, item in SCHEMA["paths"].items():
        for method, operation in item.items():
            yield method.upper(), path, Access(operation["security"][0]["bearer"][0])


def test_every_route_says_who_may_use_it() -> None:
    described = {(method, path) for method, path, _ in operations()}
    found = set()
    for path, method, handler in handlers(application()):
        if path in LIBRARY_S or method == "OPTIONS":
            assert "access" not in handler.opt, path  # closed to all
            continue
        access = handler.opt["access"]
        assert isinstance(access, Access), path
        assert handler.opt["access"] == Access(handler.security[0]["bearer"][0])
        if method != "GET":
            assert access.covers(Access.OPERATE), path
        found.add((method, path.replace(":str}", "}")))
    assert found == described
    assert len(found) > 20


@ON_ONE_LOOP
@pytest.mark.parametrize(("method", "path", "access"), list(operations()))
async def test_a_route_is_closed_without_a_token_and_to_lesser_roles(
    api: Api, method: str, path: str, access: Access
) -> None:
    target = path.replace("{", "").replace("}", "")
    reply = await api.request(method, target, access=None)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, "Bearer")
    assert "token is needed" in problem_of(reply)["detail"]
    bad = {"Authorization": "Bearer nonsense"}
    reply = await api.request(method, target, access=None, headers=bad)
    assert (reply.status, reply.headers["www-authenticate"]) == (401, 'Bearer error="invalid_token"')
    for lesser in (one for one in Access if not one.covers(access)):
        reply = await api.request(method, target, access=lesser)
        assert reply.status == 403
        assert problem_of(reply)["detail"] == f"needs the role {access}"


@ON_ONE_LOOP
async def test_a_route_that_says_nothing_is_closed_to_all() -> None:
    @get("/v1/forgotten")
    async def forgotten() -> str:
        return "all there is"

    async with running_api(more_routes=[forgotten]) as api:
        for access in (None, *Access):
            reply = await api.request("GET", "/v1/forgotten", access=access)
            assert reply.status == (401 if access is None else 403)


@ON_ONE_LOOP
@pytest.mark.parametrize("path", ["/v1/schema", "/v1/schema/x", "/v1/schema/openapi.json"])
async def test_the_library_s_own_routes_are_closed(api: Api, path: str) -> None:
    reply = await api.request("GET", path, access=Access.ADMIN)
    assert reply.status == 403
    problem_of(reply)


@ON_ONE_LOOP
async def test_a_caller_is_told_who_it_is(api: Api) -> None:
    found = await api.get("/v1/me", Access.OPERATE)
    assert (found["subject"], found["access"]) == ("tester", "operate")


@ON_ONE_LOOP
async def test_one_subject_that_asks_too_often_does_not_stop_another() -> None:
    async with running_api(requests_per_s=1, requests_burst=3) as api:
        mine = {"Authorization": f"Bearer {api.token(subject='mine')}"}
        replies = [await api.request("GET", "/v1/me", access=None, headers=mine) for _ in range(5)]
        assert [reply.status for reply in replies] == [200] * 3 + [429] * 2
        assert int(replies[-1].headers["retry-after"]) == 1
        again = {"Authorization": f"Bearer {api.token(subject='mine')}"}  # another token, the same subject
        assert (await api.request("GET", "/v1/me", access=None, headers=again)).status == 429
        other = {"Authorization": f"Bearer {api.token(subject='other')}"}
        assert (await api.request("GET", "/v1/me", access=None, headers=other)).status == 200


@ON_ONE_LOOP
async def test_an_address_that_guesses_is_slowed_down() -> None:
    async with running_api(address_requests_per_s=1, address_requests_burst=3) as api:
        bad = {"Authorization": "Bearer guess"}
        replies = [await api.request("GET", "/v1/me", access=None, headers=bad) for _ in range(5)]
        assert [reply.status for reply in replies] == [401] * 3 + [429] * 2
