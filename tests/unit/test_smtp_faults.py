"""Fault 45: whatever a relay does at whatever verb, what is said of each recipient is true."""

import asyncio

import pytest
from smtp_relays import mail, open_sink, outcome, provider_on

from pipeline.notifications.providers.smtp import SmtpProvider

NO_PIPELINING = {"on": "EHLO", "action": "reply", "code": 250, "text": ["sink", "SIZE 33554432"]}
TIMEOUT_S = 60.0  # of all that is not about time: a busy machine must not be taken for a silent relay
_SHORT_S = 0.3

# What goes wrong, and what is then true of the mail it happened to.
BEFORE_TEXT = {
    "closing": ({"action": "reply", "code": 421, "text": "4.3.2 bye"}, "ThrottledError 421 4.3.2"),
    "later": ({"action": "reply", "code": 451, "text": "4.7.1 later"}, "ThrottledError 451 4.7.1"),
    "full": ({"action": "reply", "code": 452, "text": "4.2.2 full"}, "ThrottledError 452 4.2.2"),
    "never": ({"action": "reply", "code": 554, "text": "5.7.1 no"}, "RejectedError 554 5.7.1"),
    "odd code": ({"action": "reply", "code": 299, "text": "what"}, "ThrottledError bad_reply"),
    "two lines": ({"action": "reply", "code": 450, "text": ["a", "b"]}, "ThrottledError 450"),
    "two codes": ({"action": "raw", "text": "250-a\r\n550 b\r\n"}, "ThrottledError bad_reply"),
    "no reply": ({"action": "raw", "text": "hello\r\n"}, "ThrottledError bad_reply"),
    "endless": ({"action": "raw", "text": "250-x\r\n", "repeat": 15_000}, "ThrottledError bad_reply"),
    "one line without end": ({"action": "raw", "text": "2", "repeat": 100_000}, "ThrottledError bad_reply"),
    "truncated": ({"action": "truncate", "size_bytes": 2}, "ThrottledError connection_lost"),
    "dropped": ({"action": "drop"}, "ThrottledError connection_lost"),
    "done and dropped": ({"action": "accept_then_drop"}, "ThrottledError connection_lost"),
    "silent": ({"action": "silent"}, "ThrottledError timeout"),
    "late": ({"action": "hang", "hang_ms": 60_000}, "ThrottledError timeout"),
}
AT_THE_END = {
    "closing": ({"action": "reply", "code": 421}, "ThrottledError 421 4.3.0"),
    "later": ({"action": "reply", "code": 451}, "ThrottledError 451 4.3.0"),
    "too large": ({"action": "reply", "code": 552, "text": "5.3.4 large"}, "TooLargeError 552 5.3.4"),
    "never": ({"action": "reply", "code": 554, "text": "5.6.0 no"}, "RejectedError 554 5.6.0"),
    "odd code, kept": ({"action": "reply", "code": 299, "text": "what"}, "unknown bad_reply"),
    "two codes, kept": ({"action": "raw", "text": "250-a\r\n550 b\r\n"}, "unknown bad_reply"),
    "no reply, kept": ({"action": "raw", "text": "hello\r\n"}, "unknown bad_reply"),
    "no reply, lost": ({"action": "raw", "text": "hello\r\n", "accept": False}, "unknown bad_reply"),
    "truncated": ({"action": "truncate", "size_bytes": 2}, "unknown connection_lost"),
    "dropped": ({"action": "drop"}, "unknown connection_lost"),
    "done and dropped": ({"action": "accept_then_drop"}, "unknown connection_lost"),
    "silent": ({"action": "silent"}, "unknown timeout"),
    "late": ({"action": "hang", "hang_ms": 60_000}, "unknown timeout"),
    "twice": ({"action": "raw", "text": "250 a\r\n250 b\r\n"}, "accepted"),
}
OF_THE_SENDER = {"MAIL never": "AccountRefusedError 554 5.7.1"}
CASES = {
    **{
        f"{verb} {name}": ({"on": verb, **fault}, OF_THE_SENDER.get(f"{verb} {name}", expected))
        for verb in ("MAIL", "RCPT", "DATA")
        for name, (fault, expected) in BEFORE_TEXT.items()
    },
    **{f"end {name}": ({"on": "DATA_END", **fault}, word) for name, (fault, word) in AT_THE_END.items()},
}


def let_time_run_out(provider: SmtpProvider) -> None:
    """Shorten the time-out of the connection that is used next, and of no other."""
    [session] = provider._idle
    session._timeout_s = _SHORT_S
    session._timer.cancel()  # one timer serves many mails, and this one counts on the old time-out
    session._timer = None


async def run_every_case(*others: dict) -> tuple[list[list[str]], dict[str, int]]:
    """Return what is said of the three mails of each case, and what the sink kept.

    Each case has a sender and a connection of its own; the second of its mails meets the fault.
    """
    faults = [
        {**fault, "from": f"{number}@shop.example", "skip": 1, "count": 1}
        for number, (fault, _) in enumerate(CASES.values())
    ]

    said_words = [word for _, word in CASES.values()]

    async def send_three(number: int, port: int) -> list[str]:
        provider = provider_on(port, timeout_s=TIMEOUT_S, from_address=f"{number}@shop.example")
        said = []
        for place in range(3):
            if place == 1 and said_words[number].endswith(" timeout"):
                let_time_run_out(provider)
            said.append(await outcome(provider, mail(f"{place}@{number}.example.com")))
        await provider.close()
        return said

    async with open_sink() as sink:
        await sink.behave(*faults, *others)
        said = await asyncio.gather(*(send_three(number, sink.port) for number in range(len(CASES))))
        return said, await sink.kept()


@pytest.mark.fault(45, "every fault at every verb of SMTP, and after the text", ["I12", "I32"])
async def test_what_is_said_of_each_recipient_is_true() -> None:
    for said, kept in await asyncio.gather(run_every_case(), run_every_case(NO_PIPELINING)):
        expected = {name: ["accepted", word, "accepted"] for name, (_, word) in CASES.items()}
        assert dict(zip(CASES, said, strict=True)) == expected
        for number, words in enumerate(said):
            for place, word in enumerate(words):
                if not word.startswith("unknown"):
                    wanted = int(word == "accepted")
                    assert kept.get(f"{place}@{number}.example.com", 0) == wanted, list(CASES)[number]


async def test_a_reply_of_ten_megabytes_is_not_read() -> None:
    async with open_sink() as sink:
        endless = {"on": "RCPT", "action": "raw", "text": "250-x\r\n", "repeat": 1_500_000, "count": 1}
        await sink.behave(endless)
        provider = provider_on(sink.port)
        assert await outcome(provider, mail("a@example.com")) == "ThrottledError bad_reply"
        assert await outcome(provider, mail("b@example.com")) == "accepted"
        await provider.close()
        assert await sink.kept() == {"b@example.com": 1}


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"on": "CONNECT", "action": "reply", "code": 554}, "ThrottledError 554"),
        ({"on": "CONNECT", "action": "reply", "code": 421}, "ThrottledError 421"),
        ({"on": "CONNECT", "action": "drop"}, "ThrottledError unreachable"),
        ({"on": "CONNECT", "action": "raw", "text": "x" * 1000, "repeat": 100}, "ThrottledError -1"),
        ({"on": "EHLO", "action": "drop"}, "ThrottledError unreachable"),
        ({"on": "EHLO", "action": "reply", "code": 421}, "ThrottledError 421"),
    ],
)
async def test_a_session_that_does_not_begin(fault, expected: str) -> None:
    async with open_sink() as sink:
        await sink.behave({**fault, "count": 1})
        provider = provider_on(sink.port, timeout_s=TIMEOUT_S)
        assert await outcome(provider, mail("a@example.com")) == expected
        assert await outcome(provider, mail("b@example.com")) == "accepted"
        await provider.close()
        assert await sink.kept() == {"b@example.com": 1}
