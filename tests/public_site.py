"""The public listener on a free port, with sinks that remember; and raw requests to it."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

import msgspec
from raw_http import answered
from real_stack import Bench
from vendor_posts import SECRETS

from consumers.public.services import Sinks, public_listener
from consumers.web.server import Listener
from pipeline.adapters.mapping import Adapted
from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.callbacks.seals import Seals
from pipeline.notifications.callbacks.unsubscribing import UnsubscribeTokens
from pipeline.notifications.mail.bounces import Bounce
from pipeline.observability.metrics import Metrics
from pipeline.settings import PublicSettings, Settings, ShardSettings, SmsSettings, WebhookSettings
from pipeline.storage.effects import ProviderStatus
from pipeline.storage.standing import Said
from stack.twilio.signature import sign

BASE_URL = "https://hooks.shop.example/in"
ACCOUNT = "AC" + "1" * 32
TOKEN, OTHER_TOKEN = "token-" + "a" * 26, "token-" + "b" * 26
SECRET, SECRET_BEFORE, BOUNCE_SECRET = "s" * 32, "p" * 32, "whsec_" + "QUJD" * 11
SID = "SM" + "0123456789abcdef" * 2
EFFECT = UUID("9e107d9d-372b-4b6e-8b5e-3f0d0c1a2b3c")
SLOT = 77
KEY = UUID("11111111-2222-4333-8444-555555555555")


class Reply(msgspec.Struct):
    """An answer as it came over the wire."""

    status: int
    headers: dict[str, str]
    body: bytes


class Remembered:
    """What the listener took in. `failure` is raised instead, once it is set; `gate` holds everything up."""

    def __init__(self) -> None:
        self.words: list[ProviderStatus] = []
        self.recipients: list[tuple[str, str, str, str]] = []
        self.reports: list[str] = []
        self.unsubscribed: list[UUID] = []
        self.bounces: list[bytes] = []
        self.reported: list[Bounce] = []
        self.events: list[Adapted] = []
        self.failure: Exception | None = None
        self.go = asyncio.Event()
        self.go.set()
        self.arrived = asyncio.Event()

    @property
    def sinks(self) -> Sinks:
        """Where the listener puts what it takes in: here."""
        return Sinks(
            apply=self.apply,
            set_recipient=self.set_recipient,
            unsubscribe=self.unsubscribe,
            take_bounce=self.take_bounce,
            take_reports=self.take_reports,
            publish_events=self.publish_events,
        )

    async def _wait(self) -> None:
        self.arrived.set()
        await self.go.wait()
        if self.failure is not None:
            raise self.failure

    async def apply(self, word: ProviderStatus) -> None:
        await self._wait()
        self.words.append(word)

    async def set_recipient(self, channel: Any, address: str, said: Said, *, report: str) -> bool:
        await self._wait()
        assert said.at is None  # a time of this process would not compare with another's
        self.recipients.append((channel.value, address, said.state.value, said.reason))
        self.reports.append(report)
        return True

    async def unsubscribe(self, key: UUID) -> None:
        await self._wait()
        self.unsubscribed.append(key)

    async def take_bounce(self, raw: bytes) -> None:
        await self._wait()
        self.bounces.append(raw)

    async def take_reports(self, reports: Sequence[Bounce]) -> None:
        await self._wait()
        self.reported += reports

    async def publish_events(self, events: Sequence[Adapted]) -> None:
        await self._wait()
        self.events += events


class Site:
    """A running listener."""

    def __init__(
        self, listener: Listener, remembered: Remembered, settings: Settings, metrics: Metrics
    ) -> None:
        self.listener = listener
        self.port = listener.port
        self.taken = remembered
        self.settings = settings
        self.metrics = metrics
        self.seal = Seals([SECRET]).seal(SLOT, EFFECT, 1)
        self.token = UnsubscribeTokens([SECRET]).token(KEY)

    async def raw(self, *chunks: bytes, timeout_s: float = 10.0) -> bytes:
        """Send bytes, and return all that comes until the connection is closed."""
        return await answered(self.port, *chunks, timeout_s=timeout_s)

    async def request(
        self,
        method: str,
        target: str,
        headers: dict[str, str] | list[tuple[str, str]] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send one request and return its answer."""
        given = list(headers.items()) if isinstance(headers, dict) else list(headers or [])
        names = {name.lower() for name, _ in given}
        lines = [f"{method} {target} HTTP/1.1"]
        if "host" not in names:
            lines.append("Host: hooks.shop.example")
        if (body or method == "POST") and not names & {"content-length", "transfer-encoding"}:
            lines.append(f"Content-Length: {len(body)}")
        lines += [f"{name}: {value}" for name, value in given]
        lines.append("Connection: close")
        return parse_reply(await self.raw("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body))

    async def status_callback(self, **fields: str) -> Reply:
        """Post a genuine status callback."""
        return await self.form(f"/twilio/status/{self.seal}", status_fields(**fields))

    async def form(self, target: str, fields: dict[str, str], token: str = TOKEN) -> Reply:
        """Post a genuine form."""
        headers = {
            "Content-Type": "application/x-www-form-urlencoded; charset=UTF-8",
            "X-Twilio-Signature": sign(token, BASE_URL + target, fields),
        }
        return await self.request("POST", target, headers, urlencode(fields).encode())


def status_fields(**changes: str) -> dict[str, str]:
    """The fields of a status callback."""
    fields = {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "From": "+15005550006",
        "MessageSid": SID,
        "MessageStatus": "sent",
        "SmsSid": SID,
        "SmsStatus": "sent",
        "To": "+14155550123",
    }
    return {**fields, **changes}


def inbound_fields(**changes: str) -> dict[str, str]:
    """The fields of a text from a handset."""
    fields = {
        "AccountSid": ACCOUNT,
        "Body": "STOP",
        "From": "+14155550123",
        "MessageSid": SID,
        "NumMedia": "0",
        "SmsStatus": "received",
        "To": "+15005550006",
    }
    return {**fields, **changes}


def parse_reply(raw: bytes) -> Reply:
    """Take an answer apart."""
    head, _, body = raw.partition(b"\r\n\r\n")
    first, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(": ")
        assert name.lower() not in headers, f"{name} is there twice"
        headers[name.lower()] = value
    return Reply(int(first.split(" ")[1]), headers, body)


def public_settings(webhooks: dict[str, Any] | None = None, **changes: Any) -> Settings:
    """Settings with a listener on a free port."""
    public = PublicSettings(
        base_url=BASE_URL,
        secret=SECRET,
        secret_previous=SECRET_BEFORE,
        bounce_secret=BOUNCE_SECRET,
        twilio_token_other=OTHER_TOKEN,
        help_text="Ask <us> & we'll help.",
    )
    return Settings(
        shards=(ShardSettings(name="shard0", primary="postgresql://u@127.0.0.1:1/d"),),
        sms=SmsSettings(account_sid=ACCOUNT, auth_token=TOKEN),
        public=msgspec.structs.replace(public, **changes),
        webhooks=WebhookSettings(**{**SECRETS, **(webhooks or {})}),
    )


@asynccontextmanager
async def running_site(**changes: Any) -> AsyncIterator[Site]:
    """Run a listener; afterwards check that nothing has crashed."""
    crashes: list[BaseException] = []
    settings, remembered, metrics = public_settings(**changes), Remembered(), Metrics()
    listener = public_listener(
        settings,
        remembered.sinks,
        metrics=metrics,
        clock=SystemClock(),
        tasks=Tasks(lambda _name, error: crashes.append(error)),
    )
    await listener.start()
    try:
        yield Site(listener, remembered, settings, metrics)
    finally:
        await listener.stop()
    assert crashes == []


async def sms_row(bench: Bench, order_id: str = "o-1") -> dict[str, Any]:
    """Return the ledger's row of an order's SMS."""
    rows = await bench.rows(
        "SELECT slot, effect_id, attempts, state, reason, provider, provider_id, provider_status, "
        "accepted_at, settled_at FROM outbox WHERE channel = 'sms' AND order_id = $1",
        order_id,
    )
    return rows[0] if rows else {"state": None}


def now_s() -> int:
    """Return the UNIX time."""
    return int(datetime.now(UTC).timestamp())
