"""A server that answers each request with bytes a test chooses."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from pipeline.notifications.notification import Sms
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.settings import SmsSettings

CREATED = "SM" + "0c" * 16
MESSAGE = Sms(effect_id="00" * 16, to="+14155550123", body="Order 1001")


def reply(body: bytes, *headers: str, status: str = "201 Created", length: int | None = None) -> bytes:
    """Return a reply with a length, right or wrong."""
    size = len(body) if length is None else length
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {size}", "", ""]
    return "\r\n".join(lines).encode() + body


def created(sid: str = CREATED, to: str = "+14155550123") -> bytes:
    """Return Twilio's reply to a create, as short as can be."""
    return reply(f'{{"sid": "{sid}", "to": "{to}", "status": "queued"}}'.encode())


class Site:
    """Answers. `answers`: one for each request, the last one for all that follow; None: the end.

    An answer is what is written at once, or a list of it in pieces, each after `pause_s`.
    """

    def __init__(self, *answers: Any, pause_s: float = 0.02) -> None:
        self.answers = list(answers)
        self.pause_s = pause_s
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self.hold: asyncio.Event | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
                while await self._answer(reader, writer):
                    pass
        finally:
            self.open -= 1
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = await reader.readuntil(b"\r\n\r\n")
        lower = head.lower()
        size = int(lower.split(b"content-length: ")[1].split(b"\r\n")[0]) if b"content-length" in lower else 0
        self.requests.append(head + await reader.readexactly(size))
        if self.hold is not None:
            await self.hold.wait()
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if answer is None:
            return False
        for piece in answer if isinstance(answer, list) else [answer]:
            if piece is None:
                return False
            writer.write(piece)
            await writer.drain()
            if isinstance(answer, list):
                await asyncio.sleep(self.pause_s)
        return True


@asynccontextmanager
async def serving(*answers: Any, tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    """Serve on a port of its own."""
    site = Site(*answers)
    server = await asyncio.start_server(site.serve, "127.0.0.1", 0, ssl=tls)
    site.port = server.sockets[0].getsockname()[1]
    try:
        yield site
    finally:
        server.close()
        await server.wait_closed()


def settings_of(site: Site, **changes: object) -> SmsSettings:
    values = {
        "base_url": site.url,
        "account_sid": "AC" + "0a" * 16,
        "auth_token": "token",
        "from_number": "+15005550006",
        "timeout_s": 0.25,
        "connect_timeout_s": 0.25,
    }
    return SmsSettings(**{**values, **changes})


def provider_of(site: Site, **changes: object) -> TwilioProvider:
    return TwilioProvider(settings_of(site, **changes))


async def send(provider: TwilioProvider) -> str:
    return (await provider.send(MESSAGE)).provider_id
