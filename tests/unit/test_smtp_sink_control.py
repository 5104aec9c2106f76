"""The sink's store, its control API, and the sink as a program."""

import asyncio
import hashlib
import json
import signal
import smtplib
import socket
import subprocess
import sys
import time
from email import policy
from email.message import EmailMessage

import aiohttp
import pytest

from stack.smtp.mail_store import Mail, MailStore, Spool, find_message_id
from stack.smtp.mail_view import view
from stack.smtp.sink import read_arguments, sinking


class Sink:
    def __init__(self, ready, session):
        self.port = int(ready.split()[1].rpartition(":")[2])
        self.session = session

    async def ask(self, method, path, **options):
        async with self.session.request(method, f"/_control/{path}", **options) as response:
            return response.status, await response.json()

    async def get(self, path, **params):
        status, body = await self.ask("GET", path, params=params)
        assert status == 200, body
        return body

    async def deliver(self, *mails, to="ann@example.org", sender="shop@example.com"):
        def send():
            with smtplib.SMTP("127.0.0.1", self.port, timeout=5) as client:
                for mail in mails:
                    client.sendmail(sender, to, mail)

        await asyncio.to_thread(send)


def running(*arguments):
    return sinking(read_arguments(["--port", "0", "--api-port", "0", *arguments]))


@pytest.fixture
async def sink():
    async with running() as ready, aiohttp.ClientSession(ready.split()[2]) as session:
        yield Sink(ready, session)


def mail(number, text="Text"):
    return f"Message-ID: <{number}@example.com>\r\nSubject: Mail {number}\r\n\r\n{text}\r\n".encode()


async def test_health(sink):
    await sink.deliver(mail(1))
    health = await sink.get("health")
    assert health.pop("uptime_s") >= 0
    assert health == {
        "status": "ok",
        "program": "smtp_sink",
        "total": 1,
        "kept": 1,
        "kept_max": 1_000_000,
        "evicted": 0,
        "bytes": len(mail(1)),
        "bytes_max": 1024 * 1024 * 1024,
        "evicted_bodies": 0,
        "duplicates": 0,
        "without_message_id": 0,
    }


async def test_filters_and_pages(sink):
    for number in range(1, 6):
        await sink.deliver(mail(number), to=[f"{number % 2}@example.org", "all@example.org"])

    async def numbers(**params):
        return [each["number"] for each in (await sink.get("messages", **params))["messages"]]

    assert await numbers() == [1, 2, 3, 4, 5]
    assert await numbers(rcpt="1@example.org") == [1, 3, 5]
    assert await numbers(rcpt="all@example.org", limit=2) == [1, 2]
    assert await numbers(rcpt="1@example.org", offset=1, limit=1) == [3]
    assert await numbers(after=3) == [4, 5]
    assert await numbers(message_id="<2@example.com>") == [2]
    assert await numbers(**{"from": "nobody@example.com"}) == []
    assert await numbers(since=time.time() + 60) == []
    received_at = (await sink.get("messages"))["messages"][3]["received_at"]
    assert await numbers(since=received_at) == [4, 5]
    page = await sink.get("messages", limit=2)
    assert (page["total"], page["next_after"]) == (5, 2)
    assert (await sink.get("messages", limit=5))["next_after"] is None


async def test_parsed_mail(sink):
    message = EmailMessage()
    message["Subject"], message["From"], message["To"] = (
        "Ihre Rechnung über 12 €",
        "a@b.example",
        "c@d.example",
    )
    message["Message-ID"] = "<1@example.com>"
    message.set_content("Grüße")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    invoice = b"%PDF-1.7 \xff\x00"
    message.add_attachment(invoice, maintype="application", subtype="pdf", filename="Rechnung_Ü.pdf")
    await sink.deliver(message.as_bytes(policy=policy.SMTP))
    (found,) = (await sink.get("messages", bodies=1))["messages"]
    assert await sink.get("messages/1") == found
    parsed = found["parsed"]
    assert parsed["subject"] == "Ihre Rechnung über 12 €"
    assert ["To", "c@d.example"] in parsed["headers"]
    assert (parsed["defects"], parsed["bare_newlines"]) == ([], False)
    assert parsed["part"]["content_type"] == "multipart/mixed"
    alternative, attachment = parsed["part"]["parts"]
    assert [part["content_type"] for part in alternative["parts"]] == ["text/plain", "text/html"]
    assert [part["text"].strip() for part in alternative["parts"]] == ["Grüße", "<p>Grüße</p>"]
    assert attachment == {
        "content_type": "application/pdf",
        "disposition": "attachment",
        "filename": "Rechnung_Ü.pdf",
        "charset": None,
        "size": len(invoice),
        "sha256": hashlib.sha256(invoice).hexdigest(),
    }


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no header at all",
        b"\xff\xfe\xfd: \x00\r\n\r\n\xff",
        b"Subject: =?utf-8?b?####?=\r\n\r\n",
        b"Subject: =?no-such-charset?q?x?=\r\n\r\n",
        b"Subject: \xc3\xbc \xff\r\n\r\n",
        b"Content-Type: text/plain; charset=no-such-charset\r\n\r\n\xff",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\n--x\r\n",
        b"Content-Transfer-Encoding: base64\r\n\r\n!!!",
        b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n\r\ntext",
        b'Content-Type: application/pdf; name="=?utf-8?q?=C3=BC?="\r\n\r\nx',
        b"Content-Type: text/plain; charset*=ascii'en'utf-8\r\n\r\nx",
        b"Content-Disposition: attachment; filename*=no-such-charset''%FF\r\n\r\nx",
        b"a: b\n" * 1000,
        b"".join(b"Content-Type: multipart/mixed; boundary=%d\r\n\r\n--%d\r\n" % (n, n) for n in range(5000)),
    ],
)
def test_malformed_mails_are_shown_as_far_as_possible(raw):
    parsed = view(raw)
    assert parsed.keys() == {"subject", "headers", "defects", "bare_newlines", "part"}
    json.dumps(parsed, ensure_ascii=False).encode()


def test_bare_newlines_are_noticed():
    assert view(b"a: b\r\n\r\nc\nd\r\n")["bare_newlines"]
    assert view(b"a: b\r\n\r\nc\rd\r\n")["bare_newlines"]


@pytest.mark.parametrize(
    ("raw", "message_id"),
    [
        (b"Message-ID: <1@a>\r\n\r\n", "<1@a>"),
        (b"A: b\r\nmessage-id:<1@a>\r\nC: d\r\n\r\n", "<1@a>"),
        (b"Message-Id:\r\n <1@a>\r\n\r\n", "<1@a>"),
        (b"A: b\r\n\r\nMessage-ID: <1@a>\r\n", None),
        (b"X-Message-ID: <1@a>\r\n\r\n", None),
        (b"", None),
    ],
)
def test_message_id_is_found_without_parsing(raw, message_id):
    assert find_message_id(raw) == message_id


async def test_stats(sink):
    await sink.deliver(mail(1), mail(2), mail(1), b"Subject: none\r\n\r\n")
    stats = await sink.get("stats")
    assert stats["messages"]["total"] == 4
    assert stats["messages"]["duplicates"] == 1
    assert stats["messages"]["without_message_id"] == 1
    assert stats["first_duplicates"] == [{"number": 3, "duplicate_of": 1}]
    assert stats["connections"]["opened"] == 1
    assert stats["verbs"] == {
        "CONNECT": {"220": 1},
        "EHLO": {"250": 1},
        "MAIL": {"250": 4},
        "RCPT": {"250": 4},
        "DATA": {"354": 4},
        "DATA_END": {"250": 4},
        "QUIT": {"221": 1},
    }
    assert stats["spool"] is None


async def test_wait(sink):
    waiting = asyncio.create_task(sink.get("wait", messages=2, timeout_s=5))
    await sink.deliver(mail(1), mail(2))
    assert await waiting == {"reached": True, "messages": 2}
    assert (await sink.get("wait", messages=3, timeout_s=0.01))["reached"] is False


async def test_reset(sink):
    await sink.deliver(mail(1))
    await sink.ask("PUT", "behaviour", json={"seed": 7})
    assert await sink.ask("POST", "reset") == (200, {"reset": True})
    assert await sink.get("messages") == {"total": 0, "messages": [], "next_after": None}
    assert await sink.get("behaviour") == {}
    assert (await sink.get("stats"))["verbs"] == {}
    await sink.deliver(mail(1))
    assert (await sink.get("stats"))["messages"]["duplicates"] == 0


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "messages/1", 404),
        ("GET", "messages/x/raw", 404),
        ("GET", "messages?bodies=2", 400),
        ("GET", "messages?bodies=1&limit=10000", 400),
        ("POST", "messages", 405),
        ("GET", "nothing", 404),
        ("PUT", "behaviour", 200),
    ],
)
async def test_control_requests_are_checked(sink, method, path, status):
    assert (await sink.ask(method, path))[0] == status


# --- limits ----------------------------------------------------------------------------------------


def put(store, number, size=100):
    raw = mail(number).ljust(size, b"x")
    fields = {"connection": 1, "number_in_connection": number, "received_at": float(number)}
    return store.append(Mail(mail_from="a@b", rcpt_tos=("c@d",), raw=raw, **fields), raw)


def test_bodies_are_evicted_by_bytes_and_envelopes_stay():
    store = MailStore(mails_max=10, bytes_max=250)
    for number in range(1, 5):
        put(store, number)
    assert (store.bytes, store.body_evictions, store.ring.evictions) == (200, 2, 0)
    assert [store.raw(each) is None for each in store.ring.upwards(1)] == [True, True, False, False]
    put(store, 1)
    assert store.duplicates == 1


def test_a_mail_larger_than_memory_is_counted_only():
    store = MailStore(mails_max=10, bytes_max=250)
    put(store, 1)
    put(store, 2, size=300)
    put(store, 3)
    assert (store.bytes, store.body_evictions) == (100, 2)


def test_envelopes_are_evicted_by_number():
    store = MailStore(mails_max=3, bytes_max=250)
    for number in range(1, 8):
        put(store, number)
    assert (store.ring.evictions, store.ring.oldest_number, store.bytes) == (4, 5, 200)
    assert len(store._latest_of_id) == 3
    put(store, 1)
    assert store.duplicates == 0


def test_spool_is_bounded_and_outlives_memory(tmp_path):
    store = MailStore(mails_max=10, bytes_max=150, spool=Spool(tmp_path, bytes_max=250))
    for number in range(1, 4):
        put(store, number)
    spool = store.spool
    assert (spool.files, spool.bytes, spool.skipped) == (2, 200, 1)
    assert [store.raw(each)[:20] for each in store.ring.upwards(1)] == [mail(n)[:20] for n in (1, 2, 3)]
    assert len(list(spool.directory.iterdir())) == 2
    store.clear()
    assert list(spool.directory.iterdir()) == []


async def test_evicted_text_is_gone_or_spooled(tmp_path):
    for arguments, status in (([], 410), (["--spool", "--data-dir", str(tmp_path)], 200)):
        async with (
            running("--memory-mib-max", "1", *arguments) as ready,
            aiohttp.ClientSession(ready.split()[2]) as session,
        ):
            sink = Sink(ready, session)
            text = "\r\n".join(["x" * 98] * 6_000)
            await sink.deliver(mail(1, text), mail(2, text))
            async with session.get("/_control/messages/1/raw") as response:
                assert response.status == status
                if status == 200:
                    assert await response.read() == mail(1, text)
            parsed = (await sink.get("messages/1"))["parsed"]
            assert (parsed is None) == (status == 410)
            assert (await sink.get("stats"))["messages"]["evicted_bodies"] == 1


# --- the program -----------------------------------------------------------------------------------


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "stack.smtp.sink", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def say_goodbye(client):
    """The farewell may arrive, as the reply to the first command, or be lost with the connection."""
    for _ in range(3):
        client.noop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_program_stops_on_a_signal_with_connections_open(number):
    with start("--port", "0", "--api-port", "0") as program:
        _, smtp, http = program.stdout.readline().split()
        assert http.startswith("http://127.0.0.1:")
        with smtplib.SMTP("127.0.0.1", int(smtp.rpartition(":")[2]), timeout=5) as client:
            client.sendmail("a@example.com", "b@example.org", mail(1))
            program.send_signal(number)
            assert program.communicate(timeout=2) == ("", "")
            with pytest.raises(smtplib.SMTPServerDisconnected):
                say_goodbye(client)
        assert program.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--spool"], "--spool needs --data-dir"),
        (["--mails-max", "0"], "--mails-max must be above 0"),
        (["--starttls", "--tls-cert", "a.pem"], "--tls-cert and --tls-key go together"),
        (["--starttls", "--tls-cert", "a.pem", "--tls-key", "b.pem"], "cannot use the certificate a.pem"),
        (["--spool", "--data-dir", "/dev/null/data"], "/dev/null/data"),
    ],
)
def test_wrong_options_are_one_line_on_stderr(arguments, words):
    with start("--port", "0", "--api-port", "0", *arguments) as program:
        out, error = program.communicate(timeout=10)
    assert (program.returncode, out, error.count("\n")) == (1, "", 1)
    assert words in error


@pytest.mark.parametrize("option", ["--port", "--api-port"])
def test_taken_port_is_one_line_on_stderr(option):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        other = {"--port": "--api-port", "--api-port": "--port"}[option]
        with start(option, port, other, "0") as program:
            out, error = program.communicate(timeout=10)
    assert (program.returncode, out) == (1, "")
    assert error == f"smtp_sink: cannot listen on 127.0.0.1:{port}: Address already in use\n"
