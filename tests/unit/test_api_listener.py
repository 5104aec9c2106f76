"""Bad requests to the API: a clear answer each, in one shape, with nothing of what was sent in it."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio
from api_site import Api, problem_of, running_api
from public_site import parse_reply

from consumers.api.callers import Access

pytestmark = pytest.mark.asyncio(loop_scope="module")

HOSTILE = {
    "SQL": "%27%3B%20DROP%20TABLE%20orders%3B--",
    "a path": "..%2F..%2Fetc%2Fpasswd",
    "a template": "%7B%7B7*7%7D%7D",
    "a script": "%3Cscript%3Ealert(1)%3C%2Fscript%3E",
    "a line end": "a%0D%0ASet-Cookie:%20x",
    "wide letters": "%EF%BC%91%EF%BC%92",
    "an emoji": "%F0%9F%92%A5",
    "right to left": "%E2%80%AEevil",
    "a percent sign": "100%25",
    "wildcards": "%25_%25",
}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def api() -> AsyncIterator[Api]:
    async with running_api() as running:
        yield running


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "PROPFIND"])
async def test_other_methods(api: Api, method: str) -> None:
    for path, allow in (("/v1/me", "GET"), ("/v1/limits/x", "DELETE, PUT")):
        reply = await api.request(method, path)
        assert (reply.status, reply.headers.get("allow")) in {(405, allow), (400, None)}
    assert (await api.request(method, "/v1/nothing")).status in {400, 404}


@pytest.mark.parametrize(("method", "path", "allow"), [
    ("POST", "/v1/me", "GET"),
    ("DELETE", "/v1/orders/1", "GET"),
    ("GET", "/v1/quarantine/drop", "POST"),
    ("POST", "/v1/limits/x", "DELETE, PUT"),
])  # fmt: skip
async def test_a_method_that_a_path_has_not(api: Api, method: str, path: str, allow: str) -> None:
    reply = await api.request(method, path, access=Access.ADMIN, body=b"")
    assert (reply.status, reply.headers["allow"]) == (405, allow)
    problem_of(reply)


@pytest.mark.parametrize("path", [
    "/", "/v1", "/v2/me", "/v1/me/", "//v1/me", "/v1//me", "/v1/nothing", "/metrics", "/v1/orders",
    "/v1/me%", "/v1/me%2", "/v1/me%zz", "/v1/../v1/me", "/v1/%2e%2e/me", "/v1/m%65", "/V1/ME", "/v1/me\\",
    f"/v1/orders/{'x' * 10_000}",
])  # fmt: skip
async def test_paths_that_do_not_exist(api: Api, path: str) -> None:
    reply = await api.request("GET", path)
    assert reply.status == 404
    assert "detail" not in problem_of(reply)


@pytest.mark.parametrize("what", ["order", "invoice", "customer"])
@pytest.mark.parametrize(
    "segment", ["%00", "a%00b", "%FF", "%C0%AF", "%ED%A0%80", "x" * 129, "%F0%9F%92%A5" * 129]
)
async def test_what_no_id_can_be(api: Api, what: str, segment: str) -> None:
    reply = await api.request("GET", f"/v1/{what}s/{segment}")
    assert reply.status == 404
    assert problem_of(reply)["detail"] == f"no such {what}"


@pytest.mark.parametrize("segment", HOSTILE.values(), ids=HOSTILE)
async def test_hostile_ids_get_as_far_as_any(api: Api, segment: str) -> None:
    reply = await api.request("GET", f"/v1/orders/{segment}")
    assert reply.status == 503  # there is no database here: the id was nothing special
    detail = problem_of(reply)["detail"]
    assert detail.startswith("shard0 primary at 127.0.0.1:1: co")  # who is away, and not a word of the id
    assert len(detail) < 100
    assert reply.headers["retry-after"] == "1"


@pytest.mark.parametrize("query", [
    "x=1", "limit=1&limit=2", "limit=", "limit=abc", "limit=-1", "limit=0", "limit=1000000000",
    "limit=%31%00", "limit=NaN", "state=nothing", "state[]=held", "older_than_s=nan", "older_than_s=inf",
    "older_than_s=-1", "older_than_s=1e308", "channel=fax", "kind=%3Cscript%3E", "request=1", "data=1",
    "in_state=unknown", "%FF=1", "limit=%FF", "&".join(f"a{n}=1" for n in range(200)),
])  # fmt: skip
async def test_queries_that_are_not_valid(api: Api, query: str) -> None:
    reply = await api.request("GET", f"/v1/effects?{query}")
    assert reply.status == 400, reply
    problem_of(reply)
    assert b"script" not in reply.body


@pytest.mark.parametrize("token", [
    "x", "a:b:c:d", "shard0:-1:0:", "shard0:1:FFFFFFFFFFFFFFFFFF:", "shard0:1:1:" + "f" * 20,
    "shard0:" + "9" * 5000 + ":0:", ":1:1:",
])  # fmt: skip
async def test_tokens_of_reads_that_were_never_given_out(api: Api, token: str) -> None:
    reply = await api.request("GET", f"/v1/orders/1?token={token}")
    assert (reply.status, problem_of(reply)["detail"]) == (400, "token: is none that was given out")


GOOD = {"seen": "unknown", "to": "abandoned", "because": "asked them"}
BODIES = {
    "no body": b"",
    "null": b"null",
    "a list": b"[]",
    "broken": b'{"seen": ',
    "not UTF-8": b'{"seen": "\xff"}',
    "UTF-16": '{"seen": "unknown"}'.encode("utf-16"),
    "deep": b"[" * 10_000,
    "a field too many": b'{"seen":"unknown","to":"pending","because":"x","admin":true}',
    "a field missing": b'{"seen":"unknown","to":"pending"}',
    "a word for a state": b'{"seen":"unknown","to":"sent","because":"x"}',
    "a number for a text": b'{"seen":"unknown","to":"pending","because":1}',
    "a line end": b'{"seen":"unknown","to":"pending","because":"x\\n"}',
    "NUL": b'{"seen":"unknown","to":"pending","because":"x\\u0000"}',
    "half a letter": b'{"seen":"unknown","to":"pending","because":"\\ud800"}',
    "nothing said": b'{"seen":"unknown","to":"pending","because":""}',
    "too much said": b'{"seen":"unknown","to":"pending","because":"' + b"x" * 201 + b'"}',
    "XML": b"<a/>",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_bodies_that_are_not_valid(api: Api, body: bytes) -> None:
    target = "/v1/effects/00000000-0000-4000-8000-000000000000/resolution"
    headers = {"Content-Type": "application/json"}
    reply = await api.request("POST", target, access=Access.OPERATE, headers=headers, body=body)
    assert (reply.status, problem_of(reply)["detail"]) == (
        400,
        "the body is not what the description asks for",
    )


@pytest.mark.parametrize("media_type", [
    "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "application/xml",
    "application/json; charset=latin-1",
])  # fmt: skip
async def test_other_media_types(api: Api, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    reply = await api.request(
        "POST", "/v1/quarantine/redrive", access=Access.OPERATE, headers=headers, body=b'{"ids":[]}'
    )
    assert reply.status == 415
    problem_of(reply)


async def test_bodies_that_are_too_large(api: Api) -> None:
    body = b'{"ids":["' + b"a" * 20_000 + b'"]}'
    headers = {"Content-Type": "application/json"}
    reply = await api.request(
        "POST", "/v1/quarantine/redrive", access=Access.OPERATE, headers=headers, body=body
    )
    assert reply.status == 413
    packed = {**headers, "Content-Encoding": "gzip"}
    reply = await api.request(
        "POST", "/v1/quarantine/redrive", access=Access.OPERATE, headers=packed, body=b"x"
    )
    assert reply.status == 415


async def test_two_tokens_are_none(api: Api) -> None:
    line = f"Authorization: Bearer {api.token()}\r\n"
    raw = await api.raw(f"GET /v1/me HTTP/1.1\r\nHost: x\r\n{line}{line}Connection: close\r\n\r\n".encode())
    assert parse_reply(raw).status == 400


@pytest.mark.parametrize("scheme", ["Basic", "Bearer:", "Token", "bearer\t"])
async def test_other_schemes(api: Api, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {api.token()}"}
    assert (await api.request("GET", "/v1/me", access=None, headers=headers)).status == 401
    assert (await api.request("GET", f"/v1/me?access_token={api.token()}", access=None)).status == 401


async def test_a_huge_token_is_refused_with_the_head(api: Api) -> None:
    head = b"GET /v1/me HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer " + b"A" * 100_000 + b"\r\n\r\n"
    assert parse_reply(await api.raw(head)).status == 431


async def test_every_answer_has_the_headers_that_protect_it(api: Api) -> None:
    for target in ("/v1/me", "/v1/nothing", "/v1/orders/1"):
        headers = (await api.request("GET", target)).headers
        assert headers["cache-control"] == "no-store"
        assert headers["content-security-policy"] == "default-src 'none'; frame-ancestors 'none'"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["referrer-policy"] == "no-referrer"
        assert "server" not in headers
        assert "strict-transport-security" not in headers
    async with running_api(behind_tls=True) as secure:
        assert "strict-transport-security" in (await secure.request("GET", "/v1/me")).headers


async def test_who_sends_slowly_is_cut_off() -> None:
    async with running_api(request_timeout_s=0.2) as api:
        raw = await api.raw(b"GET /v1/me HTTP/1.1\r\nHost: x\r\n")
        assert parse_reply(raw).status == 408
        token = api.token(Access.OPERATE)
        head = f"Host: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n"
        raw = await api.raw(
            f"POST /v1/quarantine/redrive HTTP/1.1\r\n{head}Content-Length: 100\r\n\r\n{{".encode()
        )
        assert raw == b"" or parse_reply(raw).status == 408


async def test_work_that_takes_too_long_is_answered() -> None:
    from litestar import get  # noqa: PLC0415

    from consumers.api.routes import needs  # noqa: PLC0415

    ended = asyncio.Event()

    @get("/v1/slow", **needs(Access.READ))
    async def slow() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with running_api(more_routes=[slow], answer_timeout_s=0.1) as api:
        reply = await api.request("GET", "/v1/slow")
        assert reply.status == 503
        assert reply.headers["retry-after"] == "1"
        assert ended.is_set()


async def test_a_defect_says_nothing_of_itself() -> None:
    from litestar import get  # noqa: PLC0415

    from consumers.api.routes import needs  # noqa: PLC0415

    @get("/v1/defect", **needs(Access.READ))
    async def defect() -> None:
        raise RuntimeError("secret of Ada, +14155550123")

    async with running_api(more_routes=[defect]) as api:
        reply = await api.request("GET", "/v1/defect")
        assert reply.status == 500
        assert problem_of(reply) == {"type": "about:blank", "title": "Internal Server Error", "status": 500}


async def test_more_at_once_than_is_allowed() -> None:
    async with running_api(requests_max=1, stream_s=30) as api:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        head = f"GET /v1/overview/stream HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {api.token()}\r\n\r\n"
        writer.write(head.encode())
        await reader.readuntil(b"\r\n\r\n")
        assert (await api.request("GET", "/v1/me")).status == 503
        writer.close()
