"""A relay that does not let us sign in: the account's trouble, and never that of a mail's recipient."""

import base64
import ssl

import pytest
from smtp_relays import answers, mail, open_sink, outcome, provider_on, scripted

from pipeline.notifications.providers.smtp import SmtpProvider
from stack.smtp.certificate import make_certificate, server_context

AUTH = ("--auth-user", "us")


@pytest.fixture(autouse=True)
def password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMTP_SINK_PASSWORD", "secret")


def known(port: int, password: str = "secret", **settings) -> SmtpProvider:
    return provider_on(port, username="us", password=password, **settings)


async def test_signing_in_over_tls(tmp_path) -> None:
    certificate, key = make_certificate(tmp_path, "localhost")
    arguments = (*AUTH, "--starttls", "--tls-cert", str(certificate), "--tls-key", str(key))
    async with open_sink(*arguments) as sink:
        provider = known(sink.port, tls="starttls", host="localhost", ca_file=str(certificate))
        assert await outcome(provider, mail("a@example.com")) == "accepted"
        await provider.close()
        assert (await sink.stats())["verbs"]["AUTH"] == {"235": 1}


async def test_a_wrong_password_is_the_accounts_trouble() -> None:
    async with open_sink(*AUTH) as sink:
        wrong = known(sink.port, "wrong")
        assert await outcome(wrong, mail("a@example.com")) == "AccountRefusedError 535"
        unnamed = provider_on(sink.port)
        assert await outcome(unnamed, mail("a@example.com")) == "AccountRefusedError 530 5.7.0"
        assert await sink.kept() == {}
        right = known(sink.port)
        assert await outcome(right, mail("a@example.com")) == "accepted"
        for provider in (wrong, unnamed, right):
            await provider.close()


@pytest.mark.parametrize("verb", ["AUTH", "MAIL", "RCPT", "DATA", "DATA_END"])
@pytest.mark.parametrize(
    ("code", "text"),
    [(530, "5.7.0"), (534, "5.7.9"), (535, "5.7.8"), (538, "5.7.11"), (535, "")],
)
async def test_a_refusal_to_let_us_in_is_never_a_recipients(verb: str, code: int, text: str) -> None:
    async with open_sink(*AUTH) as sink:
        await sink.behave({"on": verb, "action": "reply", "code": code, "text": f"{text} no", "count": 1})
        provider = known(sink.port)
        said = await outcome(provider, mail("a@example.com"))
        assert said == f"AccountRefusedError {code}{'' if verb == 'AUTH' else f' {text}'}".rstrip()
        assert await outcome(provider, mail("b@example.com")) == "accepted"
        await provider.close()
        assert await sink.kept() == {"b@example.com": 1}


@pytest.mark.parametrize("code", [421, 432, 454])
async def test_a_relay_that_cannot_look_us_up_is_tried_later(code: int) -> None:
    async with open_sink(*AUTH) as sink:
        await sink.behave({"on": "AUTH", "action": "reply", "code": code, "count": 1})
        provider = known(sink.port)
        assert await outcome(provider, mail("a@example.com")) == f"ThrottledError {code}"
        assert await outcome(provider, mail("a@example.com")) == "accepted"
        await provider.close()


@pytest.mark.parametrize(
    ("offer", "replies", "expected"),
    [
        ("PLAIN LOGIN", [b"235 ok\r\n"], "accepted"),
        ("PLAIN LOGIN", [b"504 5.5.4 not that\r\n", b"535 5.7.8 no\r\n"], "AccountRefusedError 535"),
        ("PLAIN LOGIN", [b"535 5.7.8 no\r\n", None], "AccountRefusedError 535"),  # and hangs up
        ("PLAIN LOGIN", [b"535 5.7.8 no\r\n", b"454 4.7.0 later\r\n"], "ThrottledError 454"),
        ("PLAIN", [None], "ThrottledError unreachable"),
        ("GSSAPI", [], "AccountRefusedError auth"),
    ],
)
async def test_ways_of_signing_in(tmp_path, offer: str, replies: list, expected: str) -> None:
    certificate, key = make_certificate(tmp_path, "localhost")
    hello = f"250-script\r\n250-PIPELINING\r\n250 AUTH {offer}\r\n".encode()
    tls: ssl.SSLContext = server_context(certificate, key)
    left, plain = list(replies), answers(EHLO=hello)

    def answer(line: str) -> bytes | None:
        return left.pop(0) if line.startswith("AUTH") else plain(line)

    async with scripted(answer, tls) as (relay, port):
        provider = known(port, tls="implicit", host="localhost", ca_file=str(certificate))
        assert await outcome(provider, mail("a@example.com")) == expected
        said = [line for line in relay.lines if line.startswith("AUTH PLAIN")]
        assert [base64.b64decode(line.split()[2]) for line in said] == [b"\0us\0secret"][: len(replies)]
        await provider.close()
    assert not left
