"""The sink as SMTP clients see it: commands, limits, pipelining, TLS. On uvloop, as the program runs."""

import asyncio
import contextlib
import hashlib
import smtplib
import socket
import ssl
from email.message import EmailMessage

import aiohttp
import aiosmtplib
import pytest
from smtp_peer import Peer

from stack.smtp.sink import read_arguments, sinking
from stack.standin.program import in_thread


class Sink:
    def __init__(self, ready, session):
        self.port = int(ready.split()[1].rpartition(":")[2])
        self.session = session

    async def ask(self, path, **params):
        async with self.session.get(f"/_control/{path}", params=params) as response:
            assert response.status == 200, await response.text()
            return await response.json()

    async def mails(self, **params):
        return (await self.ask("messages", **params))["messages"]

    async def raw(self, number):
        async with self.session.get(f"/_control/messages/{number}/raw") as response:
            assert (response.status, response.content_type) == (200, "message/rfc822")
            return await response.read()


@contextlib.asynccontextmanager
async def running(*arguments):
    options = read_arguments(["--port", "0", "--api-port", "0", *arguments])
    async with in_thread(sinking(options)) as ready, aiohttp.ClientSession(ready.split()[2]) as session:
        yield Sink(ready, session)


@pytest.fixture
async def sink():
    async with running() as sink:
        yield sink


@contextlib.asynccontextmanager
async def connected(sink, *, greet=True):
    reader, writer = await asyncio.open_connection("127.0.0.1", sink.port)
    peer = Peer(reader, writer)
    try:
        if greet:
            assert await peer.reply() == "220 sink.localhost ESMTP"
            await peer.say("EHLO client.localhost")
        yield peer
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


ENVELOPE = ("MAIL FROM:<shop@example.com>", "RCPT TO:<ann@example.org>", "DATA")
MAIL = b"Subject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nText\r\n"


def codes(replies):
    return [reply[:3] for reply in replies]


async def test_ehlo_offers_extensions(sink):
    async with connected(sink, greet=False) as peer:
        assert await peer.reply() == "220 sink.localhost ESMTP"
        (reply,) = await peer.say("EHLO client.localhost")
        size = 32 * 1024 * 1024
        assert reply.split("\n") == [
            "250-sink.localhost",
            f"250-SIZE {size}",
            "250-PIPELINING",
            "250-8BITMIME",
            "250-SMTPUTF8",
            "250 ENHANCEDSTATUSCODES",
        ]
        assert await peer.say("HELO client.localhost") == ["250 sink.localhost"]


async def test_one_mail(sink):
    async with connected(sink) as peer:
        assert codes(await peer.say(*ENVELOPE)) == ["250", "250", "354"]
        assert await peer.send(MAIL + b".\r\n") == "250 2.0.0 OK: kept as 1"
        assert await peer.say("QUIT") == ["221 2.0.0 Bye"]
        assert await peer.rest() == b""
    (mail,) = await sink.mails()
    assert mail.pop("received_at") > 0
    assert mail == {
        "number": 1,
        "mail_from": "shop@example.com",
        "rcpt_tos": ["ann@example.org"],
        "message_id": "<1@example.com>",
        "size": len(MAIL),
        "connection": 1,
        "number_in_connection": 1,
        "tls": False,
        "smtputf8": False,
    }
    assert await sink.raw(1) == MAIL


async def test_many_mails_on_many_connections(sink):
    async def deliver(number):
        async with connected(sink) as peer:
            for _ in range(3):
                await peer.say("MAIL FROM:<>", f"RCPT TO:<{number}@example.org>", "DATA")
                await peer.send(MAIL + b".\r\n")

    await asyncio.gather(*(deliver(number) for number in range(5)))
    mails = await sink.mails()
    assert {(mail["connection"], mail["number_in_connection"]) for mail in mails} == {
        (connection, number) for connection in range(1, 6) for number in range(1, 4)
    }
    assert all(len(set(mail["rcpt_tos"])) == 1 for mail in mails)


async def test_a_whole_session_in_one_packet(sink):
    async with connected(sink, greet=False) as peer:
        commands = b"EHLO c\r\n" + "\r\n".join(ENVELOPE).encode() + b"\r\n" + MAIL + b".\r\n"
        commands += b"MAIL FROM:<a@b>\r\nRCPT TO:<c@d>\r\nDATA\r\n.\r\nNOOP\r\nQUIT\r\n"
        peer.writer.write(commands)
        replies = [await peer.reply() for _ in range(12)]
        mail = ["250", "250", "354", "250"]
        assert codes(replies) == ["220", "250", *mail, *mail, "250", "221"]
        assert await peer.rest() == b""
    assert [await sink.raw(number) for number in (1, 2)] == [MAIL, b""]


async def test_a_session_byte_by_byte(sink):
    async with connected(sink) as peer:
        text = b"\r\n".join(line.encode() for line in ENVELOPE) + b"\r\n.." + MAIL + b"..\r\n.\r\nQUIT\r\n"
        for place in range(len(text)):
            peer.writer.write(text[place : place + 1])
            await asyncio.sleep(0)
        assert codes([await peer.reply() for _ in range(5)]) == ["250", "250", "354", "250", "221"]
    assert await sink.raw(1) == b"." + MAIL + b".\r\n"


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        (b".\r\n", b""),
        (b"\r\n.\r\n", b"\r\n"),
        (b"..\r\n.\r\n", b".\r\n"),
        (b"a\r\n..b\r\n...\r\n.c\r\n.\r\n", b"a\r\n.b\r\n..\r\nc\r\n"),
        (b"a\n.\nb\r\n.\r\n", b"a\n.\nb\r\n"),  # a bare line feed ends no mail
        (b"a\r.\rb\n.\r\n\r\n.\r\n", b"a\r.\rb\n.\r\n\r\n"),
        (b"\xff\x00\xfe\r\n.\r\n", b"\xff\x00\xfe\r\n"),
    ],
)
async def test_transparency(sink, sent, kept):
    async with connected(sink) as peer:
        await peer.say(*ENVELOPE)
        assert (await peer.send(sent))[:3] == "250"
        assert await peer.say("NOOP") == ["250 2.0.0 OK"]
    assert await sink.raw(1) == kept


async def test_large_mail_arrives_intact(sink):
    body = b"".join(hashlib.sha256(b"%d" % n).hexdigest().encode() + b"\r\n" for n in range(50_000))
    async with connected(sink) as peer:
        await peer.say(*ENVELOPE)
        assert (await peer.send(body + b".\r\n"))[:3] == "250"
    assert await sink.raw(1) == body


async def test_smtplib_and_aiosmtplib(sink):
    message = EmailMessage()
    message["From"], message["To"], message["Subject"] = "shop@example.com", "ann@example.org", "Grüße"
    message.set_content("Hallo\n.\nEnde\n")

    def send():
        with smtplib.SMTP("127.0.0.1", sink.port, timeout=5) as client:
            client.send_message(message)

    await asyncio.to_thread(send)
    async with aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.port, timeout=5) as client:
        errors, reply = await client.send_message(message)
        assert (errors, reply) == ({}, "2.0.0 OK: kept as 2")
    first, second = await sink.mails(bodies=1)
    assert first["parsed"]["part"]["text"] == second["parsed"]["part"]["text"] == "Hallo\r\n.\r\nEnde\r\n"
    assert first["parsed"]["subject"] == "Grüße"


async def test_internationalised_addresses(sink):
    async with connected(sink) as peer:
        assert codes(await peer.say("MAIL FROM:<grüße@example.com>")) == ["553"]
        assert codes(
            await peer.say("MAIL FROM:<grüße@example.com> SMTPUTF8", "RCPT TO:<ännchen@example.org>")
        ) == [
            "250",
            "250",
        ]
        await peer.say("DATA")
        await peer.send(MAIL + b".\r\n")
        assert codes(await peer.say("MAIL FROM:<a@example.com>", "RCPT TO:<ännchen@example.org>")) == [
            "250",
            "553",
        ]
    (mail,) = await sink.mails(rcpt="ännchen@example.org")
    assert (mail["mail_from"], mail["smtputf8"]) == ("grüße@example.com", True)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("NONSENSE", "500"),
        ("", "500"),
        ("MAIL", "501"),
        ("MAIL FROM:", "501"),
        ("MAIL FROM:a@b", "501"),
        ("MAIL FROM:<a>", "501"),
        ("MAIL FROM:<a@b", "501"),
        ("MAIL FROM:<a b@c>", "501"),
        ("MAIL TO:<a@b>", "501"),
        ("MAIL FROM:<" + "x" * 300 + "@b>", "501"),
        ("MAIL FROM:<a@b> SIZE=x", "501"),
        ("MAIL FROM:<a@b> BODY=9BIT", "501"),
        ("MAIL FROM:<a@b> SIZE=99999999999", "552"),
        ("MAIL FROM:<a@b> RET=FULL", "555"),
        ("MAIL FROM:<a@b> SIZE=10 BODY=8BITMIME", "250"),
        ("mail from:<A@b>", "250"),
        ("MAIL FROM: <a@b>", "250"),
        ('MAIL FROM:<"a b"@c>', "250"),
        ("RCPT TO:<a@b>", "503"),
        ("DATA", "503"),
        ("STARTTLS", "502"),
        ("VRFY a", "252"),
        ("NOOP whatever", "250"),
        ("RSET", "250"),
        ("NOOP\nQUIT", "500"),  # a bare line feed ends no command
        ("x" * 2000, "500"),
        ("x" * 5000, "500"),
    ],
)
async def test_commands_are_checked(sink, command, code):
    async with connected(sink) as peer:
        assert codes(await peer.say(command)) == [code]
        assert codes(await peer.say("NOOP")) == ["250"]


async def test_order_of_commands(sink):
    async with connected(sink, greet=False) as peer:
        await peer.reply()
        assert codes(await peer.say("MAIL FROM:<a@b>")) == ["503"]
        assert codes(await peer.say("EHLO c", "MAIL FROM:<a@b>", "MAIL FROM:<a@b>")) == ["250", "250", "503"]
        assert codes(await peer.say("DATA")) == ["554"]
        assert codes(await peer.say("RCPT TO:<a@b> NOTIFY=NEVER", "RCPT TO:<postmaster>")) == ["555", "250"]
        assert codes(await peer.say("RSET", "RCPT TO:<a@b>")) == ["250", "503"]
        assert codes(await peer.say("MAIL FROM:<a@b>", "EHLO c", "MAIL FROM:<a@b>")) == ["250", "250", "250"]


async def test_refused_data_is_read_as_commands(sink):
    async with connected(sink) as peer:
        assert codes(await peer.say("MAIL FROM:<a@b>", "DATA", "Subject: x", "", ".")) == [
            "250",
            "554",
            "500",
            "500",
            "500",
        ]


async def test_number_of_recipients_is_limited(sink):
    async with connected(sink) as peer:
        await peer.say("MAIL FROM:<a@b>")
        replies = await peer.say(*(f"RCPT TO:<{n}@b>" for n in range(1001)))
        assert codes(replies) == ["250"] * 1000 + ["452"]


async def test_number_of_errors_is_limited(sink):
    async with connected(sink) as peer:
        assert codes(await peer.say(*["NONSENSE"] * 51)) == ["500"] * 50 + ["421"]
        assert await peer.rest() == b""


async def test_number_of_connections_is_limited():
    async with running("--connections-max", "1") as sink, connected(sink):
        async with connected(sink, greet=False) as second:
            assert (await second.reply())[:3] == "421"
            assert await second.rest() == b""
        connections = (await sink.ask("stats"))["connections"]
        assert (connections["opened"], connections["refused"]) == (2, 1)


async def test_size_is_limited():
    async with running("--mail-mib-max", "1") as sink, connected(sink) as peer:
        line = b"x" * 998 + b"\r\n"
        for lines, code in ((1048, "250"), (1049, "552"), (4000, "552"), (1, "250")):
            await peer.say(*ENVELOPE)
            assert (await peer.send(line * lines + b".\r\n"))[:3] == code
        assert [mail["size"] for mail in await sink.mails()] == [1048 * 1000, 1000]


async def test_dots_of_transparency_do_not_count_as_size():
    async with running("--mail-mib-max", "1") as sink, connected(sink) as peer:
        for lines, code in ((349_525, "250"), (349_526, "552")):  # of three bytes each
            await peer.say(*ENVELOPE)
            assert (await peer.send(b"..\r\n" * lines + b".\r\n"))[:3] == code


async def test_a_closing_connection_does_not_wait_for_its_peer_for_ever():
    async with running("--idle-s-max", "0.2") as sink:
        endless = {"on": "NOOP", "action": "raw", "text": "x" * 1000, "repeat": 20_000}
        async with sink.session.put("/_control/behaviour", json={"faults": [endless]}) as response:
            assert response.status == 200
        async with connected(sink) as peer:
            peer.writer.transport.pause_reading()
            peer.writer.write(b"NOOP\r\nQUIT\r\n")
            async with asyncio.timeout(5):
                while (await sink.ask("stats"))["connections"]["open"]:
                    pass  # each question is a turn of both loops


async def test_line_length_is_limited(sink):
    async with connected(sink) as peer:
        for length, code in ((998, "250"), (999, "554"), (50_000, "554"), (1, "250")):
            await peer.say(*ENVELOPE)
            assert (await peer.send(b"a\r\n" + b"x" * length + b"\r\n.\r\n"))[:3] == code
            await peer.say(*ENVELOPE)  # the dot of transparency does not count
            assert (await peer.send(b"a\r\n." + b"x" * length + b"\r\n.\r\n"))[:3] == code


async def test_silent_connections_are_closed():
    async with running("--idle-s-max", "0.2") as sink:
        async with connected(sink) as peer:
            assert await peer.reply() == "421 4.4.2 Idle for too long"
            assert await peer.rest() == b""
        async with connected(sink) as peer:
            await peer.say(*ENVELOPE)
            assert await peer.rest() == b""
        assert (await sink.ask("stats"))["connections"]["timed_out"] == 2


async def test_a_peer_that_does_not_read_is_not_read_from(sink):
    loop = asyncio.get_running_loop()
    with socket.socket() as peer:
        peer.setblocking(False)  # noqa: FBT003 - the socket module's signature
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        await loop.sock_connect(peer, ("127.0.0.1", sink.port))
        sent = 0
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.5):
                while sent < 200_000_000:
                    await loop.sock_sendall(peer, b"NOOP\r\n" * 10_000)
                    sent += 60_000
        assert sent < 50_000_000


async def test_stopping_says_goodbye():
    async with contextlib.AsyncExitStack() as stack:
        async with running() as sink:
            peer = await stack.enter_async_context(connected(sink))
        assert await peer.reply() == "421 4.3.2 Shutting down"
        assert await peer.rest() == b""


# --- TLS -------------------------------------------------------------------------------------------


def trusting(directory):
    return ssl.create_default_context(cafile=directory / "sink.crt")


async def test_starttls(tmp_path):
    async with running("--starttls", "--data-dir", str(tmp_path)) as sink:
        client = aiosmtplib.SMTP(
            hostname="localhost", port=sink.port, start_tls=True, tls_context=trusting(tmp_path), timeout=5
        )
        async with client:
            assert not client.supports_extension("STARTTLS")
            await client.sendmail("shop@example.com", ["ann@example.org"], MAIL)
        (mail,) = await sink.mails()
        assert mail["tls"] is True
        assert (await sink.ask("stats"))["connections"]["tls"] == 1


async def test_starttls_without_a_directory_is_self_signed():
    async with running("--starttls") as sink:
        async with connected(sink, greet=False) as peer:
            await peer.reply()
            assert "250 STARTTLS" in (await peer.say("EHLO c"))[0]
        client = aiosmtplib.SMTP(hostname="localhost", port=sink.port, start_tls=True, timeout=5)
        with pytest.raises(ssl.SSLCertVerificationError):
            await client.connect()
        client.close()


async def test_commands_before_the_handshake_are_forgotten(tmp_path):
    async with running("--starttls", "--data-dir", str(tmp_path)) as sink, connected(sink) as peer:
        peer.writer.write(b"STARTTLS\r\nNOOP\r\nNOOP\r\n")
        assert (await peer.reply())[:3] == "220"
        await peer.writer.start_tls(trusting(tmp_path), server_hostname="localhost")
        assert codes(await peer.say("MAIL FROM:<a@b>")) == ["503"]
        assert "STARTTLS" not in (await peer.say("EHLO c"))[0]


async def test_failed_handshake_closes(tmp_path):
    async with running("--starttls", "--data-dir", str(tmp_path)) as sink:
        async with connected(sink) as peer:
            await peer.say("STARTTLS")
            peer.writer.write(b"this is no client hello\r\n" * 10)
            await peer.rest()
        assert (await sink.ask("stats"))["connections"]["tls_failed"] == 1
