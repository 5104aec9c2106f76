"""One SMTP connection, as a protocol that works on its buffer in place.

Not built on aiosmtpd: that reads line by line in Python, which makes 2,000 short mails a second on a core
and 280 of 100 kB, where this makes three to four times as many; and it has no place for faults at every
verb (a connection closed instead of a reply, truncated replies, replies that are none).

Input is worked on in `_work` and nowhere else. It stands still (`_held`) while a reply is delayed, while
the peer does not read, and during the TLS handshake; so replies are always in order.
"""

import asyncio
import ssl
import time
from collections.abc import Callable
from enum import Enum, auto
from typing import Final, cast

from stack.smtp.behaviour import SmtpFault
from stack.smtp.command import COMMAND_BYTES_MAX, unstuffed
from stack.smtp.dialogue import OVERSIZED, Reply, SmtpDialogue
from stack.smtp.host import SmtpHost

BAD_COMMANDS_MAX: Final = 50
TLS_HANDSHAKE_S_MAX: Final = 10.0

_CLOSING: Final = 421
_GOODBYE: Final = 221
_REFUSED: Final = 400
_GO_AHEAD: Final = 354
_MAIL_END: Final = b"\r\n.\r\n"
_VERBS: Final = {
    verb.encode(): verb
    for verb in ("EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "RCPT", "DATA", "RSET", "NOOP", "VRFY", "QUIT")
}
_UNKNOWN: Final = Reply.of(500, "5.5.2 Command not recognised")
_TOO_LONG: Final = Reply.of(500, "5.5.2 Line too long")
_TOO_MANY_ERRORS: Final = Reply.of(_CLOSING, "4.7.0 Too many errors")
_TOO_MANY_CONNECTIONS: Final = Reply.of(_CLOSING, "4.3.2 Too many connections")


class Mode(Enum):
    """What the next bytes are."""

    COMMAND = auto()
    REST_OF_LINE = auto()  # of a command line that is too long
    MAIL = auto()
    REST_OF_MAIL = auto()  # of a mail that is too long
    CLOSED = auto()


class SmtpSession(asyncio.Protocol):
    """Serves one connection."""

    def __init__(self, host: SmtpHost, sessions: set["SmtpSession"]) -> None:
        self._host = host
        self._sessions = sessions
        self._mode = Mode.COMMAND
        self._buffer = bytearray()
        self._searched = 0  # no end of a mail begins before this place in the buffer
        self._out: list[bytes] = []
        self._errors = 0
        self._delayed: asyncio.TimerHandle | None = None
        self._handshake: asyncio.Task[None] | None = None
        self._peer_reads = True
        self._last_active = time.monotonic()

    # --- the connection ----------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or refuse what is one too many."""
        host = self._host
        host.connections_opened += 1
        host.connections["opened"] += 1
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class
        self._dialogue = SmtpDialogue(host, host.connections_opened)
        self._sessions.add(self)
        host.connections_open = len(self._sessions)
        if len(self._sessions) > host.settings.connections_max:
            host.connections["refused"] += 1
            self._send("CONNECT", _TOO_MANY_CONNECTIONS)
        else:
            self._stage("CONNECT", b"")
        self._work()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget whatever was still to be done."""
        self._mode = Mode.CLOSED
        self._sessions.discard(self)
        self._host.connections_open = len(self._sessions)
        if self._delayed is not None:
            self._delayed.cancel()
        if self._handshake is not None:
            self._handshake.cancel()

    def data_received(self, data: bytes) -> None:
        """Take bytes, of which the transport delivers a bounded number at a time."""
        self._last_active = time.monotonic()
        self._buffer += data
        self._work()

    def pause_writing(self) -> None:
        """Stand still: the peer does not read its replies."""
        self._peer_reads = False

    def resume_writing(self) -> None:
        """Go on."""
        self._peer_reads = True
        self._work()

    def close(self, farewell: str) -> None:
        """Close from this side, with a 421 unless the peer is in the middle of something."""
        if self._mode is Mode.COMMAND and not self._held:
            self._send("CONNECT", Reply.of(_CLOSING, farewell))
            self._flush()
        else:
            self._transport.abort()

    def is_idle(self, since: float) -> bool:
        """Tell whether the peer has been silent since that time, and it is not this side that is slow."""
        return self._last_active < since and self._delayed is None

    @property
    def _held(self) -> bool:
        return self._delayed is not None or self._handshake is not None or not self._peer_reads

    def _work(self) -> None:
        while not self._held and self._mode is not Mode.CLOSED:
            in_mail = self._mode is Mode.MAIL or self._mode is Mode.REST_OF_MAIL
            if not (self._next_mail() if in_mail else self._next_command()):
                break
        self._flush()
        if self._transport.is_closing():
            return
        if self._held:
            self._transport.pause_reading()
        elif not self._transport.is_reading():
            self._transport.resume_reading()

    def _flush(self) -> None:
        if self._out:
            self._transport.write(b"".join(self._out))
            self._out.clear()
        if self._mode is Mode.CLOSED:
            self._transport.close()

    # --- input -------------------------------------------------------------------------------------

    def _next_command(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0 and len(self._buffer) <= COMMAND_BYTES_MAX:
            return False
        if end < 0 or end > COMMAND_BYTES_MAX or self._mode is Mode.REST_OF_LINE:
            return self._skip_line(end)
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        word, _, argument = line.partition(b" ")
        verb = _VERBS.get(word.upper())
        if verb is None:
            self._reject(_UNKNOWN)
        else:
            self._stage(verb, argument)
        return True

    def _skip_line(self, end: int) -> bool:
        if end < 0:
            self._mode = Mode.REST_OF_LINE
            del self._buffer[:-1]  # a carriage return may be the last byte
            return False
        self._mode = Mode.COMMAND
        del self._buffer[: end + 2]
        self._reject(_TOO_LONG)
        return True

    def _reject(self, reply: Reply) -> None:
        self._errors += 1
        self._send("UNKNOWN", reply if self._errors <= BAD_COMMANDS_MAX else _TOO_MANY_ERRORS)

    def _next_mail(self) -> bool:
        if self._searched == 0 and self._mode is Mode.MAIL and self._buffer.startswith(b".\r\n"):
            del self._buffer[:3]
            return self._end_mail(b"")
        end = self._buffer.find(_MAIL_END, self._searched)
        if end < 0:
            # Transparency adds a dot to three bytes at worst, so this is over the limit in any case.
            if len(self._buffer) > self._host.settings.mail_bytes_max * 4 // 3 + len(_MAIL_END):
                self._mode = Mode.REST_OF_MAIL
            if self._mode is Mode.REST_OF_MAIL:
                del self._buffer[: 1 - len(_MAIL_END)]
            self._searched = max(0, len(self._buffer) - len(_MAIL_END) + 1)
            return False
        with memoryview(self._buffer) as text:
            content = bytes(text[: end + 2])
        del self._buffer[: end + len(_MAIL_END)]
        return self._end_mail(content)

    def _end_mail(self, content: bytes) -> bool:
        oversized = self._mode is Mode.REST_OF_MAIL
        self._mode, self._searched = Mode.COMMAND, 0
        if oversized:
            self._dialogue.drop_transaction()
            self._send("DATA_END", OVERSIZED)
        else:
            self._stage("DATA_END", unstuffed(content))
        return True

    # --- output ------------------------------------------------------------------------------------

    def _stage(self, stage: str, argument: bytes) -> None:
        """Find out what is to go wrong here, wait as long as it asks for, then carry on."""
        conduct = self._host.conduct
        rules = "EHLO" if stage == "HELO" else stage
        fault = None
        if conduct.plan.concerns(rules):
            fault = conduct.plan.draw(rules, *self._dialogue.parties(stage, argument))
        delay_s = conduct.delay_s(stage, fault)
        if delay_s > 0:
            self._delay(delay_s, lambda: self._answer(stage, argument, fault))
        else:
            self._answer(stage, argument, fault)

    def _delay(self, delay_s: float, carry_on: Callable[[], None]) -> None:
        def wake() -> None:
            self._delayed = None
            self._last_active = time.monotonic()
            carry_on()
            self._work()

        self._delayed = asyncio.get_running_loop().call_later(delay_s, wake)

    def _answer(self, stage: str, argument: bytes, fault: SmtpFault | None) -> None:
        if fault is not None and not fault.serves:
            if stage == "DATA_END":
                self._dialogue.drop_transaction()
            self._misbehave(stage, None, fault)
            return
        reply = self._dialogue.serve(stage, argument)
        if fault is not None and reply.code < _REFUSED:
            self._misbehave(stage, reply, fault)
        else:
            self._send(stage, reply)
        self._follow(stage, reply)

    def _follow(self, stage: str, reply: Reply) -> None:
        """Change over to what comes after a command that took effect."""
        if self._mode is Mode.CLOSED:
            return
        if stage == "DATA" and reply.code == _GO_AHEAD:
            self._mode = Mode.MAIL
        elif stage == "STARTTLS" and reply.code < _REFUSED:
            self._buffer.clear()  # what came before the handshake came from anybody
            self._flush()
            self._handshake = asyncio.get_running_loop().create_task(self._start_tls())

    def _misbehave(self, stage: str, reply: Reply | None, fault: SmtpFault) -> None:
        match fault.action:
            case "reply":
                self._send(stage, Reply(fault.code, tuple(fault.lines())))
            case "raw":
                self._host.count(stage, "raw")
                self._out.append((fault.lines()[0] * fault.repeat).encode())
            case "silent":
                self._host.count(stage, "silent")
            case "hang" if reply is not None:
                self._delay(fault.hang_ms / 1000, lambda: self._send(stage, reply))
            case "pass" if reply is not None:
                self._send(stage, reply)
            case action:
                if action == "truncate" and reply is not None:
                    self._out.append(reply.encode()[: fault.size_bytes])
                self._host.count(stage, "closed")
                self._mode = Mode.CLOSED

    def _send(self, stage: str, reply: Reply) -> None:
        self._host.count(stage, str(reply.code))
        self._out.append(reply.encode())
        if reply.code == _CLOSING or (stage == "QUIT" and reply.code == _GOODBYE):
            self._mode = Mode.CLOSED

    async def _start_tls(self) -> None:
        assert self._host.tls is not None
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(
                self._transport,
                self,
                self._host.tls,
                server_side=True,
                ssl_handshake_timeout=TLS_HANDSHAKE_S_MAX,
            )
        except (OSError, ssl.SSLError):
            self._host.connections["tls_failed"] += 1
            self._transport.abort()
            return
        assert transport is not None
        self._transport = transport
        self._host.connections["tls"] += 1
        self._dialogue.restart(tls=True)
        self._handshake = None
        self._work()
