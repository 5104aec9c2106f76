"""What sessions with a relay do besides failing: replies in order, reuse, TLS, signing in, leases."""

import asyncio
from time import monotonic

import pytest
from smtp_relays import answers, mail, open_sink, outcome, provider_on, scripted

from pipeline.notifications.providers.smtp_replies import NotAReplyError, ReplyReader
from pipeline.notifications.providers.smtp_session import Stage
from stack.smtp.certificate import make_certificate


async def test_the_envelope_is_one_write_and_a_connection_is_used_again() -> None:
    async with open_sink() as sink:
        provider = provider_on(sink.port)
        for number in range(3):
            assert await outcome(provider, mail(f"{number}@example.com")) == "accepted"
        assert await sink.kept() == {f"{number}@example.com": 1 for number in range(3)}
        assert (await sink.stats())["connections"]["opened"] == 1
        await provider.close()
        assert (await sink.stats())["verbs"]["QUIT"] == {"221": 1}


async def test_a_connection_is_renewed_after_so_many_mails() -> None:
    async with open_sink() as sink:
        provider = provider_on(sink.port, mails_per_connection=2)
        for number in range(5):
            assert await outcome(provider, mail(f"{number}@example.com")) == "accepted"
        assert (await sink.stats())["connections"]["opened"] == 3
        await provider.close()


@pytest.mark.parametrize("key", ["connection_age_s", "connection_idle_s"])
async def test_a_connection_is_renewed_when_it_is_old(key: str) -> None:
    async with open_sink() as sink:
        provider = provider_on(sink.port, **{key: 1e-9})
        for number in range(2):
            assert await outcome(provider, mail(f"{number}@example.com")) == "accepted"
        assert (await sink.stats())["connections"]["opened"] == 2
        await provider.close()


async def test_a_refused_recipient_leaves_the_connection_usable() -> None:
    async with open_sink() as sink:
        await sink.behave(
            {"on": "RCPT", "action": "reply", "code": 550, "text": "5.1.1 who", "to": "no@example.com"}
        )
        provider = provider_on(sink.port)
        assert await outcome(provider, mail("no@example.com")) == "RecipientRefusedError 550 5.1.1"
        assert await outcome(provider, mail("yes@example.com")) == "accepted"
        assert (await sink.stats())["connections"]["opened"] == 1
        assert await sink.kept() == {"yes@example.com": 1}
        await provider.close()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"550 no\r\n", "RecipientRefusedError 550"),
        (b"550 5.7.1 not from you\r\n", "RejectedError 550 5.7.1"),
        (b"553 5.1.3 bad\r\n", "RecipientRefusedError 553 5.1.3"),
        (b"552 5.2.2 full\r\n", "ThrottledError 552 5.2.2"),
        (b"450 4.2.1 busy\r\n", "ThrottledError 450 4.2.1"),
        (b"251 forwarded\r\n", "accepted"),
    ],
)
async def test_what_a_reply_to_rcpt_means(reply: bytes, expected: str) -> None:
    async with scripted(answers(RCPT=reply)) as (_script, port):
        provider = provider_on(port)
        assert await outcome(provider, mail("a@example.com")) == expected
        await provider.close()


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (b"550 5.7.1 not a sender of yours\r\n", "AccountRefusedError 550 5.7.1"),
        (b"530 5.7.0 authenticate first\r\n", "AccountRefusedError 530 5.7.0"),
        (b"553 no\r\n", "AccountRefusedError 553"),
        (b"552 large\r\n", "TooLargeError 552"),
        (b"554 5.3.4 large\r\n", "TooLargeError 554 5.3.4"),
        (b"451 4.7.1 later\r\n", "ThrottledError 451 4.7.1"),
    ],
)
async def test_a_refused_sender_is_no_mails_own_fault(reply: bytes, expected: str) -> None:
    """Else every mail of an hour in which the relay does not know us would end as failed."""
    refused = b"503 5.5.1 no sender\r\n"
    async with scripted(answers(MAIL=reply, RCPT=refused, DATA=refused)) as (_script, port):
        provider = provider_on(port)
        assert await outcome(provider, mail("a@example.com")) == expected
        await provider.close()


async def test_data_taken_after_a_refused_recipient_gets_no_text() -> None:
    # RFC 2920 3.1: the relay may say 354 all the same.
    script = answers(RCPT=b"550 5.1.1 who\r\n", END=b"554 5.5.1 no valid recipients\r\n")
    async with scripted(script) as (relay, port):
        provider = provider_on(port)
        for _ in range(2):
            assert await outcome(provider, mail("a@example.com")) == "RecipientRefusedError 550 5.1.1"
        assert relay.connections == 1
        assert relay.lines[1:5] == [*relay.lines[1:4], "."]
        assert relay.lines[5] == "RSET"
        assert not any("Your order" in line for line in relay.lines)
        await provider.close()


@pytest.mark.parametrize(
    "changes",
    [
        {"MAIL": b"250 ok\r\n250 ok\r\n"},
        {"RCPT": b"250 ok\r\n354 go\r\n"},
        {"DATA": b"354 go\r\n250 ok\r\n"},
        {"MAIL": b"550 no\r\n", "RCPT": b"250 ok\r\n", "DATA": b"354 go\r\n"},
        {"RCPT": b"200 ok\r\n"},
    ],
)
async def test_replies_out_of_step_end_the_session_before_any_text(changes) -> None:
    async with scripted(answers(**changes)) as (relay, port):
        provider = provider_on(port)
        said = await outcome(provider, mail("a@example.com"))
        assert not said.startswith(("accepted", "unknown"))
        assert not any("Your order" in line for line in relay.lines)
        assert "." not in relay.lines
        assert await outcome(provider, mail("b@example.com")) == said
        assert relay.connections == 2
        await provider.close()


async def test_a_reply_that_comes_late_is_no_reply_to_the_next_mail() -> None:
    held = asyncio.Event()

    def answer(line: str) -> bytes | None:
        if line == "RCPT TO:<a@example.com>":
            held.set()
            return b""  # and the reply never comes; the relay may well have been about to send one
        return plain(line)

    plain = answers()
    async with scripted(answer) as (relay, port):
        provider = provider_on(port, timeout_s=60.0)
        assert await outcome(provider, mail("first@example.com")) == "accepted"
        [session] = provider._idle
        late = asyncio.create_task(outcome(provider, mail("a@example.com")))
        await asyncio.wait_for(held.wait(), 20)
        session._deadline = 0.0
        session._look_at_the_time()
        assert await late == "ThrottledError timeout"
        assert await outcome(provider, mail("b@example.com")) == "accepted"
        assert relay.connections == 2
        await provider.close()


async def test_the_time_of_each_mail_counts_from_its_own_beginning() -> None:
    """One timer serves them all: it must end no connection that is idle, and no mail early or never."""
    silent, asked = "RCPT TO:<c@example.com>", asyncio.Event()

    def answer(line: str) -> bytes | None:
        if line == silent:
            asked.set()
        return b"" if line == silent else plain(line)

    plain = answers()
    async with scripted(answer) as (relay, port):
        provider = provider_on(port, timeout_s=60.0)
        assert await outcome(provider, mail("a@example.com")) == "accepted"
        [session] = provider._idle
        session._look_at_the_time()
        assert session.is_idle
        assert session._timer is None
        assert await outcome(provider, mail("b@example.com")) == "accepted"
        third = asyncio.create_task(outcome(provider, mail("c@example.com")))
        await asyncio.wait_for(asked.wait(), 20)
        session._timer.cancel()
        session._look_at_the_time()  # of a timer that began with the mail before
        assert session._stage is Stage.ENVELOPE
        assert session._timer.when() == session._deadline
        session._deadline = 0.0
        session._look_at_the_time()
        assert await asyncio.wait_for(third, 20) == "ThrottledError timeout"
        assert relay.connections == 1
        await provider.close()


async def test_a_lease_that_is_over_lets_nothing_out() -> None:
    async with scripted(answers()) as (relay, port):
        provider = provider_on(port)
        said = await outcome(provider, mail("a@example.com", send_before=monotonic()))
        assert said == "LeaseEndedError lease_ended"
        assert not any(line.startswith("MAIL") for line in relay.lines)
        await provider.close()


async def test_a_lease_that_ends_before_the_text_lets_no_text_out() -> None:
    async with open_sink() as sink:
        await sink.behave({"on": "DATA", "action": "pass", "latency_ms": 200})
        provider = provider_on(sink.port)
        said = await outcome(provider, mail("a@example.com", send_before=monotonic() + 0.1))
        assert said == "LeaseEndedError lease_ended"
        assert await sink.kept() == {}
        await provider.close()


async def test_a_mail_over_the_relays_size_is_not_sent() -> None:
    async with scripted(answers(EHLO=b"250-script\r\n250-PIPELINING\r\n250 SIZE 100\r\n")) as (relay, port):
        provider = provider_on(port)
        assert await outcome(provider, mail("a@example.com")) == "TooLargeError too_large"
        assert not any(line.startswith("MAIL") for line in relay.lines)
        await provider.close()


async def test_cancelling_closes_the_connection() -> None:
    async with scripted(answers(END=b"")) as (relay, port):
        provider = provider_on(port)
        sending = asyncio.create_task(provider.send(mail("a@example.com")))
        await asyncio.wait_for(relay.text_came.wait(), 5)
        sending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await sending
        assert "0 idle" in repr(provider)


async def test_lines_of_one_dot_arrive_as_they_are() -> None:
    async with open_sink() as sink:
        provider = provider_on(sink.port)
        assert await outcome(provider, mail("a@example.com", text=".\n..\n.a\nb\n.\n")) == "accepted"
        parsed = await sink.mail(1)
        assert parsed.get_body(("plain",)).get_content().split() == [".", "..", ".a", "b", "."]
        await provider.close()


@pytest.mark.parametrize(
    "recipient", ["a@example.com> SIZE=1", "a@example.com\r\nRCPT TO:<b@example.com>", "a b@c.de"]
)
async def test_no_address_ends_its_command(recipient: str) -> None:
    async with scripted(answers()) as (relay, port):
        provider = provider_on(port)
        assert await outcome(provider, mail(recipient)) == "RecipientRefusedError invalid_email"
        assert not any(line.startswith(("MAIL", "RCPT")) for line in relay.lines)
        await provider.close()


async def test_starttls_with_a_certificate_that_is_trusted(tmp_path) -> None:
    certificate, key = make_certificate(tmp_path, "localhost")
    arguments = ("--starttls", "--tls-cert", str(certificate), "--tls-key", str(key))
    async with open_sink(*arguments) as sink:
        provider = provider_on(sink.port, tls="starttls", host="localhost", ca_file=str(certificate))
        for name in "ab":
            assert await outcome(provider, mail(f"{name}@example.com")) == "accepted"
        assert (await sink.stats())["connections"]["tls"] == 1
        await provider.close()


@pytest.mark.fault(46, "STARTTLS stripped, and a certificate nobody vouches for", ["I38"])
async def test_starttls_without_trust_or_offer_sends_nothing(tmp_path) -> None:
    # Fault 46: a certificate nobody vouches for, and a STARTTLS that somebody took out of the reply to EHLO.
    async with open_sink("--starttls") as sink:
        provider = provider_on(sink.port, tls="starttls", host="localhost")
        assert await outcome(provider, mail("a@example.com")) == "ThrottledError tls"
        assert await sink.kept() == {}
    async with scripted(answers()) as (relay, port):
        provider = provider_on(port, tls="starttls")
        assert await outcome(provider, mail("a@example.com")) == "ThrottledError unreachable"
        assert not any(line.startswith(("MAIL", "AUTH")) for line in relay.lines)


def test_replies_come_in_any_pieces() -> None:
    text = b"250-a\r\n250 2.1.0 b\r\n354 go\r\n550-5.1.1 x\r\n550 5.1.1 y\r\n"
    expected = [(250, "2.1.0"), (354, ""), (550, "5.1.1")]
    for size in range(1, len(text) + 1):
        reader = ReplyReader()
        found = [reply for at in range(0, len(text), size) for reply in reader.feed(text[at : at + size])]
        assert [tuple(reply) for reply in found] == expected
        assert reader.is_between_replies


@pytest.mark.parametrize(
    "text", [b"999 x\r\n", b"\r\n", b"25 x\r\n", b"250x\r\n", b"250-a\r\n251 b\r\n", b"2" * 40_000]
)
def test_what_is_no_reply(text: bytes) -> None:
    with pytest.raises(NotAReplyError):
        ReplyReader().feed(text)


@pytest.mark.parametrize("size", [1000, 40_000, 1_000_000])
def test_a_reply_is_too_long_in_whatever_pieces_it_comes(size: int) -> None:
    """All at once as well: its end would be another command's reply, and the session out of step."""
    text = b"250-x\r\n" * 15_000 + b"250 ok\r\n"
    pieces = (text[at : at + size] for at in range(0, len(text), size))
    with pytest.raises(NotAReplyError, match="without end"):
        list(map(ReplyReader().feed, pieces))
