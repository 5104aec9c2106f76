"""The sink lets nobody send who has not signed in, when it is told whom to let in."""

import asyncio
import smtplib
from base64 import b64encode

import pytest
from smtp_peer import Peer
from smtp_relays import open_sink

from stack.smtp.sink import read_arguments, sinking
from stack.standin.program import StartUpError


def plain(text: str) -> str:
    return f"AUTH PLAIN {b64encode(text.encode()).decode()}"


RIGHT = plain("\0us\0secret")


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_SINK_PASSWORD", "secret")


async def said_to(*lines: str, arguments: tuple[str, ...] = ("--auth-user", "us")) -> list[str]:
    """Return the replies to some lines, after the greeting."""
    async with open_sink(*arguments) as sink:
        reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
        peer = Peer(reader, writer)
        await peer.reply()
        replies = await peer.say(*lines)
        writer.close()
        return replies


async def codes(*lines: str, **options) -> list[str]:
    return [reply[:3] for reply in await said_to(*lines, **options)]


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (RIGHT, "235"),
        (RIGHT.replace("PLAIN", "plain"), "235"),
        (plain("\0us\0wrong"), "535"),
        (plain("us\0us\0secret"), "535"),
        (plain("\0\0"), "535"),
        ("AUTH PLAIN", "535"),
        ("AUTH PLAIN =", "501"),
        ("AUTH PLAIN ünlesbar", "501"),
        ("AUTH LOGIN", "504"),
        ("AUTH", "504"),
    ],
)
async def test_what_is_said_to_auth(line: str, code: str) -> None:
    assert await codes("EHLO c", "MAIL FROM:<a@b>", line, "MAIL FROM:<a@b>") == [
        "250",
        "530",
        code,
        "250" if code == "235" else "530",
    ]


async def test_auth_has_its_place() -> None:
    assert await codes(RIGHT, "EHLO c", RIGHT, RIGHT) == ["503", "250", "235", "503"]
    assert await codes("EHLO c", RIGHT, arguments=()) == ["250", "502"]
    over_tls_only = ("--auth-user", "us", "--starttls")
    offer, refusal = await said_to("EHLO c", RIGHT, arguments=over_tls_only)
    assert "AUTH" not in offer
    assert refusal.startswith("502")
    assert "AUTH PLAIN" in (await said_to("EHLO c"))[0]


async def test_another_client_signs_in() -> None:
    def sign_in(port: int, password: str) -> int:
        with smtplib.SMTP("127.0.0.1", port, timeout=5) as client:
            try:
                return client.login("us", password)[0]
            except smtplib.SMTPAuthenticationError as error:
                return error.smtp_code

    async with open_sink("--auth-user", "us") as sink:
        found = [await asyncio.to_thread(sign_in, sink.port, word) for word in ("secret", "wrong")]
    assert found == [235, 535]


async def test_a_name_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SMTP_SINK_PASSWORD")
    with pytest.raises(StartUpError, match="SMTP_SINK_PASSWORD"):
        async with sinking(read_arguments(["--port", "0", "--api-port", "0", "--auth-user", "us"])):
            pass
