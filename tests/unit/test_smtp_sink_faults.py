"""Faults on request at every verb, seen by a client that says exactly what it is told to."""

import asyncio
import contextlib

import aiohttp
import aiosmtplib
import pytest
from smtp_peer import Peer

from stack.smtp.sink import read_arguments, sinking
from stack.standin.program import in_thread

ENVELOPE = ("MAIL FROM:<shop@example.com>", "RCPT TO:<ann@example.org>", "DATA")
MAIL = b"Subject: Hello\r\nMessage-ID: <1@example.com>\r\n\r\nText\r\n"
DOT = MAIL + b".\r\n"


class Sink:
    def __init__(self, ready, session):
        self.port = int(ready.split()[1].rpartition(":")[2])
        self.session = session

    async def behave(self, *faults, **behaviour):
        behaviour |= {"faults": faults}
        async with self.session.put("/_control/behaviour", json=behaviour) as response:
            assert response.status == 200, await response.text()

    async def ask(self, path):
        async with self.session.get(f"/_control/{path}") as response:
            return await response.json()

    async def kept(self):
        return (await self.ask("messages"))["total"]

    async def connect(self):
        peer = Peer(*await asyncio.open_connection("127.0.0.1", self.port))
        self.peers.append(peer)
        return peer

    async def greeted(self):
        peer = await self.connect()
        assert (await peer.reply())[:3] == "220"
        await peer.say("EHLO client.localhost")
        return peer


@pytest.fixture
async def sink():
    options = read_arguments(["--port", "0", "--api-port", "0"])
    async with in_thread(sinking(options)) as ready, aiohttp.ClientSession(ready.split()[2]) as session:
        sink = Sink(ready, session)
        sink.peers = []
        yield sink
        for peer in sink.peers:
            peer.writer.close()
            with contextlib.suppress(ConnectionError):
                await peer.writer.wait_closed()


async def perform(peer):
    """Go through every verb; return the replies by stage, as far as it gets."""
    replies = {}
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionResetError):
        replies["CONNECT"] = await peer.reply()
        for command in ("EHLO c", "NOOP", "VRFY x", *ENVELOPE):
            (replies[command.split(" ")[0]],) = await peer.say(command)
        if replies["DATA"][:3] == "354":
            replies["DATA_END"] = await peer.send(DOT)
        for command in ("RSET", "QUIT"):
            (replies[command],) = await peer.say(command)
    return replies


STAGES = ["CONNECT", "EHLO", "NOOP", "VRFY", "MAIL", "RCPT", "DATA", "DATA_END", "RSET", "QUIT"]


async def goes_on(peer, stage):
    """A refused QUIT is no QUIT; any other refusal left the session in order until its QUIT."""
    if stage == "QUIT":
        return await peer.say("NOOP")
    assert await peer.rest() == b""
    return ["250"]


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("code", [421, 451, 550])
async def test_refusal_at_every_verb(sink, stage, code):
    await sink.behave({"on": stage, "action": "reply", "code": code, "text": "4.0.0 Told to"})
    peer = await sink.connect()
    replies = await perform(peer)
    assert replies[stage] == f"{code} 4.0.0 Told to"
    if code == 421:
        assert list(replies)[-1] == stage
        assert await peer.rest() == b""
    else:
        assert list(replies)[-1] == "QUIT"
        assert [reply[:3] for reply in await goes_on(peer, stage)] == ["250"]
    if stage in {"MAIL", "RCPT", "DATA", "DATA_END"}:
        assert await sink.kept() == 0
    verbs = (await sink.ask("stats"))["verbs"]
    assert verbs[stage][str(code)] == 1


@pytest.mark.parametrize("stage", STAGES)
async def test_drop_at_every_verb(sink, stage):
    await sink.behave({"on": stage, "action": "drop"})
    peer = await sink.connect()
    replies = await perform(peer)
    assert list(replies) == STAGES[: STAGES.index(stage)]
    assert (await sink.ask("stats"))["verbs"][stage] == {"closed": 1}
    assert await sink.kept() == (1 if STAGES.index(stage) > STAGES.index("DATA_END") else 0)


@pytest.mark.parametrize("stage", STAGES)
async def test_truncated_reply_at_every_verb(sink, stage):
    await sink.behave({"on": stage, "action": "truncate", "size_bytes": 2})
    peer = await sink.connect()
    replies = await perform(peer)
    assert stage not in replies
    assert len(replies) == STAGES.index(stage)


async def test_refused_recipient_is_left_out(sink):
    await sink.behave(
        {"on": "RCPT", "action": "reply", "code": 550, "text": "5.1.1 No", "to_suffix": "@bad.org"}
    )
    peer = await sink.greeted()
    replies = await peer.say("MAIL FROM:<a@b>", "RCPT TO:<1@good.org>", "RCPT TO:<2@bad.org>", "DATA")
    assert [reply[:3] for reply in replies] == ["250", "250", "550", "354"]
    await peer.send(DOT)
    (mail,) = (await sink.ask("messages"))["messages"]
    assert mail["rcpt_tos"] == ["1@good.org"]


async def test_accept_then_drop_keeps_the_mail(sink):
    await sink.behave({"on": "DATA_END", "action": "accept_then_drop", "count": 1})
    client = aiosmtplib.SMTP(hostname="127.0.0.1", port=sink.port, timeout=5)
    async with client:
        with pytest.raises(aiosmtplib.SMTPServerDisconnected):
            await client.sendmail("a@example.com", ["b@example.org"], MAIL)
    assert await sink.kept() == 1
    async with client:
        await client.sendmail("a@example.com", ["b@example.org"], MAIL)
    stats = await sink.ask("stats")
    assert stats["messages"]["duplicates"] == 1
    assert stats["first_duplicates"] == [{"number": 2, "duplicate_of": 1}]


async def test_refusal_can_hide_a_kept_mail(sink):
    await sink.behave({"on": "DATA_END", "action": "reply", "code": 451, "accept": True})
    peer = await sink.greeted()
    await peer.say(*ENVELOPE)
    assert await peer.send(DOT) == "451 4.3.0 Fault on request"
    assert await sink.kept() == 1


async def test_drop_at_the_dot_keeps_nothing_and_ends_the_transaction(sink):
    await sink.behave({"on": "DATA_END", "action": "reply", "code": 554})
    peer = await sink.greeted()
    await peer.say(*ENVELOPE)
    assert (await peer.send(DOT))[:3] == "554"
    assert (await peer.say("MAIL FROM:<a@b>"))[0][:3] == "250"
    assert await sink.kept() == 0


async def test_other_words_for_success(sink):
    lines = ["sink.localhost", "SIZE 1000"]
    await sink.behave({"on": "EHLO", "action": "reply", "code": 250, "text": lines})
    peer = await sink.connect()
    await peer.reply()
    assert await peer.say("EHLO c") == ["250-sink.localhost\n250 SIZE 1000"]
    assert (await peer.say("MAIL FROM:<a@b>"))[0][:3] == "250"


async def test_multi_line_refusal(sink):
    lines = ["5.7.1 Go away", "5.7.1 and stay there"]
    await sink.behave({"on": "MAIL", "action": "reply", "code": 550, "text": lines})
    peer = await sink.greeted()
    assert await peer.say("MAIL FROM:<a@b>") == ["550-5.7.1 Go away\n550 5.7.1 and stay there"]


async def test_raw_replies(sink):
    await sink.behave(
        {"on": "NOOP", "action": "raw", "text": "250-one\r\n550 other\r\n", "count": 1},
        {"on": "NOOP", "action": "raw", "text": "250 one\r\n250 unasked\r\n", "count": 1},
        {"on": "NOOP", "action": "raw", "text": "250-again and again\r\n", "repeat": 100_000, "count": 1},
    )
    peer = await sink.greeted()
    assert await peer.say("NOOP") == ["250-one\n550 other"]
    assert await peer.say("NOOP") == ["250 one"]
    assert await peer.reply() == "250 unasked"
    peer.writer.write(b"NOOP\r\nQUIT\r\n")
    endless = await peer.rest()
    assert endless.count(b"again and again") == 100_000
    assert endless.endswith(b"221 2.0.0 Bye\r\n")


async def test_silence(sink):
    await sink.behave({"on": "MAIL", "action": "silent"})
    peer = await sink.greeted()
    peer.writer.write(b"MAIL FROM:<a@b>\r\n")
    assert await peer.is_silent()
    assert (await peer.say("RCPT TO:<c@d>"))[0] == "250 2.1.5 OK"


async def test_hang_keeps_the_mail_and_replies_late(sink):
    await sink.behave({"on": "DATA_END", "action": "hang", "hang_ms": 60_000})
    peer = await sink.greeted()
    await peer.say(*ENVELOPE)
    peer.writer.write(DOT)
    assert (await sink.ask("wait?messages=1&timeout_s=5"))["reached"]
    assert await peer.is_silent()
    await sink.behave({"on": "DATA_END", "action": "hang", "hang_ms": 10})
    peer = await sink.greeted()
    await peer.say(*ENVELOPE)
    assert await peer.send(DOT + b"NOOP\r\n") == "250 2.0.0 OK: kept as 2"
    assert await peer.reply() == "250 2.0.0 OK"


async def test_latency_delays_and_keeps_the_order(sink):
    await sink.behave({"on": "RCPT", "action": "pass", "latency_ms": 60})
    peer = await sink.greeted()
    started = asyncio.get_running_loop().time()
    replies = await peer.say("MAIL FROM:<a@b>", "RCPT TO:<c@d>", "RCPT TO:<e@f>", "NOOP", "DATA")
    assert [reply[:3] for reply in replies] == ["250", "250", "250", "250", "354"]
    assert asyncio.get_running_loop().time() - started >= 0.115  # a timer may fire a tick early


async def test_latency_of_every_mail(sink):
    await sink.behave(latency_ms={"min": 60, "max": 70})
    peer = await sink.greeted()
    await peer.say(*ENVELOPE)
    started = asyncio.get_running_loop().time()
    await peer.send(DOT)
    assert asyncio.get_running_loop().time() - started >= 0.06


async def test_leaving_during_a_delay(sink):
    await sink.behave({"on": "DATA_END", "action": "pass", "latency_ms": 60_000})
    peer = await sink.greeted()
    await peer.say(*ENVELOPE)
    peer.writer.write(DOT)
    await peer.writer.drain()
    peer.writer.close()
    await peer.writer.wait_closed()
    await sink.behave()
    other = await sink.greeted()
    await other.say(*ENVELOPE)
    assert (await other.send(DOT))[:3] == "250"
    assert await sink.kept() == 1


async def test_rules_match_sender_and_recipient(sink):
    await sink.behave(
        {"on": "MAIL", "action": "reply", "code": 451, "from": "a@b"},
        {"on": "DATA_END", "action": "reply", "code": 452, "to": "c@d", "count": 1},
    )
    peer = await sink.greeted()
    replies = await peer.say("MAIL FROM:<a@b>", "MAIL FROM:<x@y>", "RCPT TO:<e@f>", "RCPT TO:<c@d>", "DATA")
    assert [reply[:3] for reply in replies] == ["451", "250", "250", "250", "354"]
    assert (await peer.send(DOT))[:3] == "452"
    await peer.say("MAIL FROM:<x@y>", "RCPT TO:<e@f>", "RCPT TO:<c@d>", "DATA")
    assert (await peer.send(DOT))[:3] == "250"
    assert [rule["fired"] for rule in (await sink.ask("faults"))["faults"]] == [1, 1]


async def test_malformed_commands_are_refused_as_ever(sink):
    await sink.behave({"on": "MAIL", "action": "reply", "code": 250, "text": "Fine"})
    peer = await sink.greeted()
    assert [reply[:3] for reply in await peer.say("MAIL nonsense", "MAIL FROM:<a@b>")] == ["501", "250"]


async def test_rates_are_repeatable(sink):
    runs = []
    for seed in (1, 1, 2):
        await sink.behave({"on": "NOOP", "action": "reply", "rate": 0.5}, seed=seed)
        runs.append([reply[:3] for reply in await (await sink.greeted()).say(*["NOOP"] * 40)])
    assert runs[0] == runs[1] != runs[2]
    assert 0 < runs[0].count("451") < 40


@pytest.mark.parametrize(
    "fault",
    [
        {"on": "MAIL"},
        {"on": "NOWHERE", "action": "drop"},
        {"on": "MAIL", "action": "explode"},
        {"on": "MAIL", "action": "reply", "code": 199},
        {"on": "MAIL", "action": "reply", "text": "two\r\nlines"},
        {"on": "MAIL", "action": "reply", "text": []},
        {"on": "MAIL", "action": "reply", "text": ["two\nlines"]},
        {"on": "MAIL", "action": "raw", "text": ["a", "b"]},
        {"on": "MAIL", "action": "raw", "text": "x" * 1000, "repeat": 1_000_000},
        {"on": "MAIL", "action": "drop", "unknown": 1},
    ],
)
async def test_wrong_faults_are_refused(sink, fault):
    async with sink.session.put("/_control/behaviour", json={"faults": [fault]}) as response:
        assert (response.status, list(await response.json())) == (400, ["error"])
    assert await sink.ask("behaviour") == {}
