"""Group L of the corpus as data, and the other side of each case: emulator, sink or scripted server."""

import asyncio
import ssl
import subprocess
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, Literal

import aiohttp
import msgspec
from emulated_twilio import SID, TOKEN

from stack.smtp.certificate import make_certificate, server_context
from stack.smtp.sink import read_arguments, sinking
from stack.standin.program import in_thread
from stack.twilio.emulator import emulating
from stack.twilio.emulator import read_arguments as read_twilio_arguments

_FILE = Path(__file__).with_name("provider_replies.toml")
_ENDLESS = b"X-More: " + b"x" * 4000 + b"\r\n"

Outcome = Literal["accepted", "throttled", "account", "rejected", "recipient", "unknown"]
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Case(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One reply, and how the send has to end. See the file's head."""

    number: int
    what: str
    provider: Literal["twilio", "smtp"]
    outcome: Outcome
    faults: list[dict[str, Any]] = []
    raw: str = ""
    script: list[str] = []
    tls: Literal["", "self-signed", "expired", "wrong host", "none"] = ""
    settings: dict[str, Any] = {}
    code: str = ""
    retry_after_s: float | None = None
    kept: int | None = None

    @property
    def name(self) -> str:
        return f"{self.number} {self.what}"

    @property
    def kept_expected(self) -> int | None:
        """How many messages the other side must have; None: nobody can know."""
        if self.kept is not None or self.outcome == "unknown":
            return self.kept
        return int(self.outcome == "accepted")


def cases(provider: str) -> list[Case]:
    read = msgspec.convert(tomllib.loads(_FILE.read_text(encoding="utf-8"))["case"], list[Case])
    return [case for case in read if case.provider == provider]


class OtherSide(msgspec.Struct):
    """A server: where it is, how many messages it has, how often it was connected to, whom to trust."""

    url: str
    kept: Callable[[], Awaitable[int]]
    visits: list[int] = []
    ca_file: str = ""


class Servers(msgspec.Struct, frozen=True):
    """An emulator and a sink in threads of their own, which serve one case after the other."""

    twilio_url: str
    smtp_url: str
    smtp_control_url: str


@contextmanager
def running_servers() -> Iterator[Servers]:
    twilio = read_twilio_arguments(["--port", "0", "--account-sid", SID, "--auth-token", TOKEN])
    smtp = read_arguments(["--port", "0", "--api-port", "0"])
    with asyncio.Runner() as runner:
        running = (in_thread(emulating(twilio)), in_thread(sinking(smtp)))
        ready = [runner.run(server.__aenter__()) for server in running]
        try:
            yield Servers(ready[0].removeprefix("ready "), *ready[1].split()[1:])
        finally:
            for server in running:
                runner.run(server.__aexit__(None, None, None))


@asynccontextmanager
async def other_side(case: Case, servers: Servers, folder: Path) -> AsyncIterator[OtherSide]:
    """The server of a case."""
    if case.tls:
        async with _with_bad_tls(case, folder) as side:
            yield side
    elif case.raw:
        async with _raw_server(case.raw) as side:
            yield side
    elif case.script:
        async with listening(_scripted(case.script)) as port:
            yield OtherSide(f"smtp://127.0.0.1:{port}", _nothing)
    elif case.provider == "twilio":
        async with _behaving(case, servers.twilio_url, servers.twilio_url) as side:
            yield side
    else:
        async with _behaving(case, servers.smtp_url, servers.smtp_control_url) as side:
            yield side


@asynccontextmanager
async def _with_bad_tls(case: Case, folder: Path) -> AsyncIterator[OtherSide]:
    """Serve a certificate that is wrong in one way only: the others it is trusted for."""
    certificate, key = (expired_certificate if case.tls == "expired" else make_certificate)(
        folder, "localhost"
    )
    context = None if case.tls == "none" else server_context(certificate, key)
    host = "127.0.0.2" if case.tls == "wrong host" else "127.0.0.1"
    trusted = str(certificate) if case.tls in {"expired", "wrong host"} else ""
    async with listening(_closing, context, host) as port:
        scheme = "https" if case.provider == "twilio" else "smtps"
        name = host if case.tls == "wrong host" else "localhost"
        yield OtherSide(f"{scheme}://{name}:{port}", _nothing, ca_file=trusted)


def expired_certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """Make a self-signed certificate of January 2020; return the paths of certificate and key."""
    (folder / "ca.cnf").write_text(_EXPIRED_CA.format(name=name))
    (folder / "db").touch()
    (folder / "serial").write_text("01\n")
    request = ["req", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    request += ["-subj", f"/CN={name}", "-keyout", "old.key", "-out", "old.csr"]
    sign = ["ca", "-config", "ca.cnf", "-selfsign", "-batch", "-notext", "-keyfile", "old.key"]
    sign += ["-in", "old.csr", "-out", "old.crt"]
    sign += ["-startdate", "20200101000000Z", "-enddate", "20200201000000Z"]
    for command in (request, sign):
        subprocess.run(["openssl", *command], cwd=folder, check=True, capture_output=True, timeout=20)
    return folder / "old.crt", folder / "old.key"


_EXPIRED_CA = """[ca]
default_ca=own
[own]
database=db
new_certs_dir=.
serial=serial
default_md=sha256
policy=any
x509_extensions=names
[any]
commonName=supplied
[names]
subjectAltName=DNS:{name},IP:127.0.0.1
"""


@asynccontextmanager
async def _behaving(case: Case, url: str, control_url: str) -> AsyncIterator[OtherSide]:
    async with aiohttp.ClientSession(control_url) as control:
        async with control.post("/_control/reset", json={}) as reply:
            assert reply.status == 200, await reply.text()
        await _behave(control, case.faults)
        yield OtherSide(url, lambda: _total(control))


async def _behave(control: aiohttp.ClientSession, faults: list[dict[str, Any]]) -> None:
    async with control.put("/_control/behaviour", json={"faults": faults}) as reply:
        assert reply.status == 200, await reply.text()


async def _total(control: aiohttp.ClientSession) -> int:
    async with control.get("/_control/messages") as reply:
        return (await reply.json())["total"]


async def _nothing() -> int:
    return 0


# --- servers that say what they are told to -----------------------------------------------------------


@asynccontextmanager
async def listening(
    talk: Talk, context: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[int]:
    """Serve connections on a port of its own until the block ends."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await talk(reader, writer)
            await writer.drain()
        except (ConnectionError, asyncio.IncompleteReadError):
            pass  # the client has given up: that is what some cases are about
        finally:
            writer.close()

    server = await asyncio.start_server(serve, host, 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def _closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speak no TLS to who begins one; who speaks it and trusts us gets nothing either."""
    await reader.read(1)
    writer.write(b"220 no TLS here\r\n")


@asynccontextmanager
async def _raw_server(text: str) -> AsyncIterator[OtherSide]:
    side = OtherSide("", _nothing)

    async def elsewhere(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        side.visits.append(1)
        writer.write(b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n")

    async with listening(elsewhere) as other:
        reply = text.replace("{elsewhere}", f"http://127.0.0.1:{other}/").encode("latin-1")

        async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await _read_request(reader)
            start, endless, _ = reply.partition(b"{headers}")
            writer.write(start)
            while endless and not writer.is_closing():
                writer.write(_ENDLESS)
                await writer.drain()

        async with listening(talk) as port:
            side.url = f"http://127.0.0.1:{port}"
            yield side


async def _read_request(reader: asyncio.StreamReader) -> None:
    head = await reader.readuntil(b"\r\n\r\n")
    lines = [line.partition(b":") for line in head.lower().splitlines()]
    length = next(int(value) for name, _, value in lines if name == b"content-length")
    await reader.readexactly(length)


def _scripted(script: list[str]) -> Talk:
    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for place, text in enumerate(script):
            if place:
                await reader.readuntil(b"\r\n")
            writer.write(f"{text}\r\n".encode())

    return talk
