"""Relays for tests of the SMTP provider: the sink with its control API, and one that answers by a script."""

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable
from email import message_from_bytes
from email.policy import default

import aiohttp

from pipeline.clock import SystemClock
from pipeline.errors import (
    LeaseEndedError,
    OutcomeUnknownError,
    ProviderError,
    RejectedError,
    ThrottledError,
)
from pipeline.notifications.notification import Email
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.settings import EmailSettings
from stack.smtp.sink import read_arguments, sinking
from stack.standin.program import in_thread

DEFINITE = (ThrottledError, RejectedError, LeaseEndedError)


def mail(to: str, effect_id: str = "0" * 32, **changes) -> Email:
    values = {
        "effect_id": effect_id,
        "to": to,
        "subject": "Your order",
        "text": "Hello\n",
        "html": "<p>Hello",
    }
    return Email(**{**values, **changes})


def provider_on(port: int, **settings) -> SmtpProvider:
    values = {
        "host": "127.0.0.1",
        "port": port,
        "tls": "none",
        "timeout_s": 5.0,
        "from_address": "us@shop.example",
    }
    return SmtpProvider(EmailSettings(**{**values, **settings}), sender_name="Shop", clock=SystemClock())


async def outcome(provider: SmtpProvider, message: Email) -> str:
    """Send and return `accepted`, `definite` (not accepted) or `unknown`, with the error's code."""
    try:
        await provider.send(message)
    except OutcomeUnknownError as error:
        return f"unknown {error.code}"
    except DEFINITE as error:
        return f"{type(error).__name__} {error.code}"
    except ProviderError as error:
        raise AssertionError(f"{type(error).__name__} says nothing of the outcome") from error
    return "accepted"


class Sink:
    """The sink, and what it took."""

    def __init__(self, ready: str, session: aiohttp.ClientSession) -> None:
        self.port = int(ready.split()[1].rpartition(":")[2])
        self._session = session

    async def behave(self, *faults: dict) -> None:
        async with self._session.put("/_control/behaviour", json={"faults": faults}) as response:
            assert response.status == 200, await response.text()

    async def kept(self) -> dict[str, int]:
        """Return how many mails came for each recipient, having checked that each is that recipient's."""
        async with self._session.get("/_control/messages?limit=1000") as response:
            mails = (await response.json())["messages"]
        found: dict[str, int] = {}
        for one in mails:
            [recipient] = one["rcpt_tos"]
            parsed = await self.mail(one["number"])
            assert [address.addr_spec for address in parsed["To"].addresses] == [recipient]
            found[recipient] = found.get(recipient, 0) + 1
        return found

    async def mail(self, number: int):
        async with self._session.get(f"/_control/messages/{number}/raw") as response:
            return message_from_bytes(await response.read(), policy=default)

    async def stats(self) -> dict:
        async with self._session.get("/_control/stats") as response:
            return await response.json()


@contextlib.asynccontextmanager
async def open_sink(*arguments: str) -> AsyncIterator[Sink]:
    options = read_arguments(["--port", "0", "--api-port", "0", *arguments])
    async with in_thread(sinking(options)) as ready, aiohttp.ClientSession(ready.split()[2]) as session:
        yield Sink(ready, session)


EHLO = b"250-script\r\n250-PIPELINING\r\n250 SIZE 1000000\r\n"


def answers(**changes: bytes | None) -> Callable[[str], bytes | None]:
    """Return a script: what a good relay says, but for these verbs."""
    good = {
        "EHLO": EHLO,
        "MAIL": b"250 ok\r\n",
        "RCPT": b"250 ok\r\n",
        "DATA": b"354 go\r\n",
        "END": b"250 ok\r\n",
    }
    replies = {**good, "RSET": b"250 ok\r\n", "QUIT": b"221 bye\r\n", **changes}
    state = {"text": False}

    def answer(line: str) -> bytes | None:
        verb = line[:4].upper()
        if state["text"] and verb != "EHLO":
            if line != ".":
                return b""
            state["text"] = False
            verb = "END"
        state["text"] = False
        reply = replies.get(verb, b"500 what\r\n")
        if verb == "DATA" and reply is not None and b"354" in reply:
            state["text"] = True
        return reply

    return answer


class Script:
    """A relay that reads lines and answers each as `answer` says: bytes to write, or None to close."""

    def __init__(self, answer: Callable[[str], bytes | None]) -> None:
        self._answer = answer
        self.lines: list[str] = []
        self.connections = 0
        self.text_came = asyncio.Event()
        self._handlers: set[asyncio.Task] = set()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self._handlers.add(asyncio.current_task())
        writer.write(b"220 script\r\n")
        with contextlib.suppress(ConnectionError, asyncio.CancelledError):
            while line := await reader.readline():
                self.lines.append(line.decode().removesuffix("\r\n"))
                if self.lines[-1] == ".":
                    self.text_came.set()
                reply = self._answer(self.lines[-1])
                if reply is None:
                    break
                writer.write(reply)
                await writer.drain()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def end(self) -> None:
        """End what is still open."""
        for handler in self._handlers:
            handler.cancel()
        await asyncio.gather(*self._handlers, return_exceptions=True)


@contextlib.asynccontextmanager
async def scripted(
    answer: Callable[[str], bytes | None], tls: ssl.SSLContext | None = None
) -> AsyncIterator[tuple[Script, int]]:
    script = Script(answer)
    server = await asyncio.start_server(script.serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        yield script, server.sockets[0].getsockname()[1]
        await script.end()
