"""nginx's configurations, run by a real nginx on loopback where Debian's package is installed."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from deployment import DEPLOY
from nginx_edge import (
    HOOKS,
    TWILIO,
    Edge,
    checked,
    make_certificates,
    needs_nginx,
    place_all,
    running_edge,
)

pytestmark = needs_nginx


@pytest.fixture(scope="module")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificates(tmp_path_factory.mktemp("tls"))


@pytest.fixture
async def edge(tmp_path: Path, tls: Path) -> AsyncIterator[Edge]:
    async with running_edge(tmp_path, tls) as found:
        yield found


def test_the_configuration_for_a_host_is_one_that_nginx_takes(tmp_path: Path, tls: Path) -> None:
    place_all(tmp_path, tls)
    found = checked(tmp_path, "postorder.conf")
    assert found.returncode == 0, found.stderr
    assert "[warn]" not in found.stderr.replace("could not open error log", "")


async def test_what_is_reached_from_outside_and_what_is_not(edge: Edge) -> None:
    assert await edge.ask("POST", "/twilio/status/abc", data=b"MessageSid=SM1") == 204
    assert await edge.ask("GET", "/unsubscribe/abc") == 204
    assert await edge.ask("POST", "/mail/bounces", data=b"x" * 1_000_000) == 204
    assert await edge.ask("POST", "/webhooks/shopify", data=b"x" * 1_000_000) == 204
    assert len(edge.seen) == 4
    refused = {
        ("POST", "/twilio/status/abc", "elsewhere.test"): 421,
        ("GET", "/metrics", HOOKS): 404,
        ("GET", "/v1/orders/1", HOOKS): 404,
        ("GET", "/_control/messages", TWILIO): 404,
        ("DELETE", "/unsubscribe/abc", HOOKS): 403,
        ("TRACE", "/unsubscribe/abc", HOOKS): 405,
        ("GET", "/mail/bounces", HOOKS): 403,
        ("GET", "/webhooks/shopify", HOOKS): 403,
    }
    for (method, path, host), status in refused.items():
        assert await edge.ask(method, path, host) == status, (method, path)
    assert await edge.ask("POST", "/twilio/inbound", data=b"x" * 70_000) == 413
    assert await edge.ask("POST", "/mail/bounces", data=b"x" * 2_200_000) == 413
    assert await edge.ask("GET", "/unsubscribe/" + "a" * 20_000) == 414
    assert len(edge.seen) == 4


async def test_nobody_is_believed_about_where_a_request_comes_from(edge: Edge) -> None:
    claims = {"X_Forwarded_For": "1.2.3.4", "Forwarded": "for=1.2.3.4", "X_Forwarded_Host": "evil.test"}
    assert await edge.ask("GET", "/unsubscribe/abc", **claims) == 204
    passed_on = edge.seen[0].headers
    assert not {name.replace("_", "-") for name in claims} & set(passed_on)
    assert passed_on["Host"] == HOOKS
    assert len(passed_on["X-Request-ID"]) == 32


async def test_links_are_not_logged(edge: Edge) -> None:
    """A link of unsubscribing is a capability: who reads logs must not have it."""
    assert await edge.ask("GET", "/unsubscribe/SECRET?token=SECRET", Referer="https://SECRET") == 204
    log = (edge.folder / "access.log").read_text()
    assert '"path":"/unsubscribe"' in log
    assert "SECRET" not in log


async def test_links_are_not_logged_when_something_goes_wrong_either(edge: Edge) -> None:
    """nginx's log of errors quotes the whole request: what concerns one is in the log of requests alone."""
    assert await edge.ask("POST", "/twilio/status/SECRET?token=SECRET", data=b"x" * 70_000) == 413
    assert "SECRET" not in (edge.folder / "error.log").read_text()
    assert '"status":413' in (edge.folder / "access.log").read_text()


@pytest.mark.parametrize("name", ["postorder.conf", "postorder-api.conf"])
def test_each_server_keeps_requests_out_of_the_log_of_errors(name: str) -> None:
    """In the server itself: Debian's nginx.conf names a log of its own, which counts in every other place."""
    servers = (DEPLOY / "nginx" / name).read_text().split("\nserver {")[1:]
    assert servers
    assert all("\n    error_log /var/log/nginx/postorder-error.log emerg;\n" in one for one in servers)


@pytest.mark.parametrize(
    ("ciphers", "taken"), [("ECDHE-ECDSA-AES128-GCM-SHA256", True), ("ECDHE-ECDSA-AES128-SHA", False)]
)
async def test_only_authenticated_encryption_with_forward_secrecy_is_taken(
    edge: Edge, ciphers: str, *, taken: bool
) -> None:
    """TLS 1.0 and 1.1 have no such ciphers; Debian's OpenSSL refuses them besides."""
    context = ssl.create_default_context(cafile=edge.tls / "ca.crt")
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(ciphers)
    opening = asyncio.open_connection("127.0.0.1", edge.port, ssl=context, server_hostname=HOOKS)
    if not taken:
        with pytest.raises(ssl.SSLError):
            await opening
        return
    _, writer = await opening
    assert writer.get_extra_info("cipher")[0] == ciphers
    writer.close()
    await writer.wait_closed()
