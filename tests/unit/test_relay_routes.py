"""SendGrid and Amazon SES as they call: what is taken, what is refused, and what is never fetched."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from public_site import Site, running_site
from relay_reports import (
    CERTIFICATE,
    CONFIRM,
    DOMAIN,
    EFFECT,
    TOPIC,
    certificate,
    sendgrid_event,
    sendgrid_headers,
    sendgrid_key,
    sns_body,
    sns_message,
)

from consumers.public import fetching
from pipeline.errors import CallbackError, CallbackUnavailableError, SettingsError, StorageUnavailableError

SENDGRID, SES = "/mail/events/sendgrid", "/mail/events/ses"
SNS_TYPE = {"Content-Type": "text/plain; charset=UTF-8"}


@asynccontextmanager
async def relays_site(**changes: Any) -> AsyncIterator[Site]:
    async with running_site(
        **{"sendgrid_keys": (sendgrid_key(),), "sns_topics": (TOPIC,), **changes}
    ) as site:
        assert site.settings.email.from_address.endswith(f"@{DOMAIN}")
        yield site


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    urls: list[str] = []

    async def fetch(url: str) -> bytes:
        urls.append(url)
        return certificate()

    monkeypatch.setattr(fetching, "fetch", fetch)
    return urls


async def test_sendgrids_events_are_taken_and_what_is_not_its_own_is_not() -> None:
    body = json.dumps([sendgrid_event(), {"event": "open"}]).encode()
    async with relays_site() as site:
        assert (await site.request("POST", SENDGRID, sendgrid_headers(body), body)).status == 204
        [bounce] = site.taken.reported
        assert (bounce.effect_id, bounce.action, bounce.status) == (EFFECT, "failed", "5.1.1")
        for headers, sent, status in (
            (sendgrid_headers(body), body + b" ", 403),
            ({"Content-Type": "application/json"}, body, 403),
            ({**sendgrid_headers(body), "Content-Type": "text/plain"}, body, 415),
            ([*sendgrid_headers(body).items(), *list(sendgrid_headers(body).items())[2:]], body, 400),
            (sendgrid_headers(b"{}"), b"{}", 400),
            ({**sendgrid_headers(body), "Content-Length": "2000000"}, b"", 413),
        ):
            assert (await site.request("POST", SENDGRID, headers, sent)).status == status
        assert len(site.taken.reported) == 1
        site.taken.failure = StorageUnavailableError("away")
        assert (await site.request("POST", SENDGRID, sendgrid_headers(body), body)).status == 503


async def test_messages_of_our_topic_are_taken_and_its_subscription_is_confirmed(fetched: list[str]) -> None:
    asking = sns_message(
        "You have chosen", Type="SubscriptionConfirmation", Token="2336", SubscribeURL=CONFIRM
    )
    async with relays_site() as site:
        assert (await site.request("POST", SES, SNS_TYPE, json.dumps(asking).encode())).status == 204
        assert fetched == [CERTIFICATE, CONFIRM]
        assert (await site.request("POST", SES, SNS_TYPE, sns_body())).status == 204
        [bounce] = site.taken.reported
        assert (bounce.effect_id, bounce.addresses) == (EFFECT, {"ada@example.com"})
        other = sns_body(TopicArn=TOPIC + "x")
        changed = sns_body(after={"Message": "{}"})
        greeting = json.dumps(sns_message("Successfully validated SNS topic")).encode()
        broken = json.dumps(sns_message("{")).encode()
        for sent, status in ((other, 403), (changed, 403), (b"{}", 400), (broken, 400), (greeting, 204)):
            assert (await site.request("POST", SES, SNS_TYPE, sent)).status == status
        too_long = {**SNS_TYPE, "Content-Length": "2000000"}
        assert (await site.request("POST", SES, too_long)).status == 413
        assert fetched == [CERTIFICATE, CONFIRM]
        assert site.taken.reported == [bounce]


async def test_without_settings_there_are_no_such_routes() -> None:
    body = json.dumps([sendgrid_event()]).encode()
    async with running_site() as site:
        assert (await site.request("POST", SENDGRID, sendgrid_headers(body), body)).status == 404
        assert (await site.request("POST", SES, SNS_TYPE, sns_body())).status == 404


async def test_a_key_that_is_none_is_named_at_start() -> None:
    with pytest.raises(SettingsError, match=r"public\.sendgrid_keys"):
        async with relays_site(sendgrid_keys=("abc",)):
            pass


# --- what is fetched ----------------------------------------------------------------------------------------

Answer = Callable[[web.Request], web.StreamResponse]


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[str]:
    async def handle(request: web.Request) -> web.StreamResponse:
        return answer(request)

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/x"
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda _: web.Response(body=b"x" * 65_536), b"x" * 65_536),
        (lambda _: web.Response(body=b"x" * 65_537), CallbackError),
        (lambda _: web.Response(status=404), CallbackError),
        (lambda _: web.Response(status=302, headers={"Location": "http://127.0.0.1:1/"}), CallbackError),
        (lambda _: web.Response(status=503), CallbackUnavailableError),
    ],
    ids=["as much as is taken", "more", "nothing there", "a redirect", "away"],
)
async def test_what_is_fetched_is_bounded(answer: Answer, found: Any) -> None:
    async with serving(answer) as url:
        if isinstance(found, bytes):
            assert await fetching.fetch(url) == found
            return
        with pytest.raises(found) as caught:
            await fetching.fetch(url)
        assert caught.type is found


async def test_a_host_that_is_away_is_worth_another_try() -> None:
    with pytest.raises(CallbackUnavailableError, match="cannot be asked: ClientConnectorError"):
        await fetching.fetch("http://127.0.0.1:1/")
