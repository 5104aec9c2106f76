"""Mails over one SMTP connection: MAIL, RCPT and DATA in one write, every reply paired with its command.

aiosmtplib opens the connection (greeting, EHLO, STARTTLS, AUTH) and hands its transport over. Its own way of
sending takes a round trip for each command and cannot have two replies outstanding.

Until the text's final dot is written nothing is accepted, whatever goes wrong; from then on a lost reply
leaves the outcome unknown. After anything but plain replies in their places the connection is not used again.
"""

import asyncio
import re
from enum import Enum, auto
from time import monotonic

from pipeline.errors import (
    LeaseEndedError,
    OutcomeUnknownError,
    ProviderError,
    RecipientRefusedError,
    ThrottledError,
    TooLargeError,
)
from pipeline.notifications.providers.smtp_judgement import (
    CLOSING,
    ENVELOPE,
    GO_AHEAD,
    OK,
    TEMPORARY,
    envelope_problem,
    refusal,
    reset_problem,
)
from pipeline.notifications.providers.smtp_replies import NotAReplyError, Reply, ReplyReader

_END = b".\r\n"
_TALKS_TOO_MUCH = "the relay says more than it was asked"
_has_dot_line = re.compile(rb"\r\n\.").search  # in half the time that `in` takes
_is_path = re.compile(r"[!-;=?-~]{1,320}").fullmatch


class Stage(Enum):
    """What the server's next replies are about."""

    IDLE = auto()
    ENVELOPE = auto()
    TEXT = auto()  # the final dot is out: the mail may be accepted
    NO_TEXT = auto()  # a final dot only, for DATA that the server took although it had refused the envelope
    QUITTING = auto()
    CLOSED = auto()


_UNDER_WAY = frozenset((Stage.ENVELOPE, Stage.TEXT, Stage.NO_TEXT))


class SmtpSession(asyncio.Protocol):
    """One connection, one mail at a time.

    Mutable state: `_stage`, `_commands` (not written yet), `_replies` (to the envelope), `_unread` (replies
    that came with the one being looked at), `_outcome` (what `submit` waits for) and `_refused` (what NO_TEXT
    will end with). It changes in the steps below, none of which waits for anything.
    """

    def __init__(
        self, transport: asyncio.Transport, *, pipelining: bool, size_bytes_max: int | None, timeout_s: float
    ) -> None:
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._pipelining = pipelining
        self._size_bytes_max = size_bytes_max
        self._timeout_s = timeout_s
        self._stage = Stage.IDLE
        self._reader = ReplyReader()
        self._commands: list[bytes] = []
        self._replies: list[Reply] = []
        self._has_reset = self._needs_reset = False
        self._unread = 0
        self._text = b""
        self._send_before = 0.0
        self._deadline = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._outcome: asyncio.Future[None] | None = None
        self._refused: ProviderError | None = None
        self.mails = 0
        self.opened_at = self.used_at = monotonic()
        transport.set_protocol(self)

    def __repr__(self) -> str:
        return f"SmtpSession({self._stage.name}, {self.mails} mails)"

    @property
    def is_idle(self) -> bool:
        """Whether another mail can be submitted."""
        return self._stage is Stage.IDLE and not self._transport.is_closing()

    async def submit(self, sender: str, recipient: str, text: bytes, send_before: float) -> None:
        """Hand over one mail; return when it is accepted. `text`: all lines end with CRLF.

        Raises as EmailProvider says. `send_before` is looked at when MAIL is written and again when the text
        is. Cancelled: the connection is closed, and the outcome is unknown.
        """
        if not (_is_path(sender) and _is_path(recipient)):
            raise RecipientRefusedError("invalid_email", "an address that SMTP cannot carry")
        if self._size_bytes_max is not None and len(text) > self._size_bytes_max:
            raise TooLargeError("too_large", f"the relay takes {self._size_bytes_max} bytes at most")
        outcome = self._outcome = self._loop.create_future()
        self._begin(sender, recipient, text, send_before)
        try:
            await outcome
        except asyncio.CancelledError:
            self.abort()
            raise
        finally:
            self.used_at = monotonic()

    async def quit(self, timeout_s: float) -> None:
        """Say goodbye, wait for the answer, close."""
        if self.is_idle:
            self._stage = Stage.QUITTING
            outcome = self._outcome = self._loop.create_future()
            self._transport.write(b"QUIT\r\n")
            await asyncio.wait([outcome], timeout=timeout_s)
        self.abort()

    def leave(self) -> None:
        """Say goodbye without waiting for the answer."""
        if self.is_idle:
            self._transport.write(b"QUIT\r\n")
        self._stage = Stage.CLOSED
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._stage = Stage.CLOSED
        self._transport.abort()

    # --- the connection ----------------------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Take replies. What nobody asked for ends the session."""
        try:
            replies = self._reader.feed(data)
        except NotAReplyError:
            self._give_up("bad_reply")
            return
        for place, reply in enumerate(replies, start=1):
            self._unread = len(replies) - place
            self._take(reply)
        if self._stage is Stage.IDLE and not self._reader.is_between_replies:
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio's signature
        """End whatever was under way."""
        self._give_up("connection_lost")

    def _look_at_the_time(self) -> None:
        """End what is overdue. One timer serves many mails."""
        self._timer = None
        if self._stage not in _UNDER_WAY:
            return
        if self._loop.time() < self._deadline:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)
        else:
            self._give_up("timeout")

    # --- one mail ----------------------------------------------------------------------------------

    def _begin(self, sender: str, recipient: str, text: bytes, send_before: float) -> None:
        size = f" SIZE={len(text)}" if self._size_bytes_max is not None else ""
        self._has_reset = self._needs_reset
        commands = [b"RSET\r\n"] if self._needs_reset else []
        commands += [
            f"MAIL FROM:<{sender}>{size}\r\n".encode("ascii"),
            f"RCPT TO:<{recipient}>\r\n".encode("ascii"),
            b"DATA\r\n",
        ]
        self._replies, self._text, self._send_before = [], text, send_before
        if monotonic() >= send_before:
            self._end(LeaseEndedError())
            return
        self._needs_reset = True
        self._stage = Stage.ENVELOPE
        self._deadline = self._loop.time() + self._timeout_s
        if self._timer is None:
            self._timer = self._loop.call_at(self._deadline, self._look_at_the_time)
        first = len(commands) if self._pipelining else 1
        self._transport.write(b"".join(commands[:first]))
        self._commands = commands[first:]

    def _take(self, reply: Reply) -> None:
        match self._stage:
            case Stage.ENVELOPE:
                self._replies.append(reply)
                self._envelope(reply)
            case Stage.TEXT:
                self._text_reply(reply)
            case Stage.NO_TEXT:
                assert self._refused is not None
                # A 250 would be to a mail that nobody was to get: not a server to go on with.
                self._end(self._refused, is_sound=reply.code >= TEMPORARY and reply.code != CLOSING)
            case Stage.QUITTING:
                self._end(None)
            case _:
                self.abort()

    def _envelope(self, reply: Reply) -> None:
        if reply.code == CLOSING:
            self._end(ThrottledError(reply.status, "the relay closes the session"), is_sound=False)
            return
        place = len(self._replies) - self._has_reset  # 1: MAIL, 2: RCPT, 3: DATA
        if place == len(ENVELOPE):
            self._envelope_done(self._problem(), reply)
        elif not self._pipelining:
            self._next_command(self._problem(), reply)

    def _next_command(self, problem: ProviderError | None, reply: Reply) -> None:
        if problem is not None:
            self._end(problem, is_sound=reply.code >= TEMPORARY)
        elif not self._is_read:
            self._end(ThrottledError("bad_reply", _TALKS_TOO_MUCH), is_sound=False)
        else:
            self._transport.write(self._commands.pop(0))

    def _envelope_done(self, problem: ProviderError | None, data_reply: Reply) -> None:
        if problem is None:
            self._send_text()
        elif data_reply.code == GO_AHEAD and self._is_read and self._replies[-2].code >= TEMPORARY:
            # RFC 2920 3.1: it waits for a text in spite of all; it gets none. Were the recipient not refused
            # in so many words, the empty mail might be delivered.
            self._refused = problem
            self._stage = Stage.NO_TEXT
            self._transport.write(_END)
        else:
            self._end(problem, is_sound=data_reply.code >= TEMPORARY)

    def _send_text(self) -> None:
        if not self._is_read:
            # What came early would be taken for the reply to the text.
            self._end(ThrottledError("bad_reply", _TALKS_TOO_MUCH), is_sound=False)
        elif monotonic() >= self._send_before:
            self._end(LeaseEndedError(), is_sound=False)
        else:
            text = self._text
            self._stage = Stage.TEXT
            self._deadline = self._loop.time() + self._timeout_s
            self._transport.write((text.replace(b"\r\n.", b"\r\n..") if _has_dot_line(text) else text) + _END)

    @property
    def _is_read(self) -> bool:
        """Whether the server has said nothing beyond the reply that is being looked at."""
        return self._unread == 0 and self._reader.is_between_replies

    def _text_reply(self, reply: Reply) -> None:
        # A reply to what is not all written yet: whatever it says, the rest must not be taken for commands.
        is_early = self._transport.get_write_buffer_size() > 0
        if reply.code == OK and not is_early:
            self._needs_reset = False
            self.mails += 1
            self._end(None)
        elif reply.code >= TEMPORARY:
            is_sound = not is_early and reply.code != CLOSING
            self._end(refusal(reply, at_recipient=False), is_sound=is_sound)
        else:
            self._end(OutcomeUnknownError("bad_reply", reply.status), is_sound=False)

    def _problem(self) -> ProviderError | None:
        if self._has_reset:
            reset, *replies = self._replies
            return reset_problem(reset) or envelope_problem(replies)
        return envelope_problem(self._replies)

    def _give_up(self, why: str) -> None:
        """End with what follows from how far the mail had come."""
        match self._stage:
            case Stage.ENVELOPE:
                self._end(ThrottledError(why, "before the text was sent"), is_sound=False)
            case Stage.TEXT:
                self._end(OutcomeUnknownError(why, "after the text was sent"), is_sound=False)
            case Stage.NO_TEXT:
                self._end(self._refused, is_sound=False)
            case Stage.QUITTING:
                self._end(None, is_sound=False)
            case _:
                self.abort()

    def _end(self, error: ProviderError | None, *, is_sound: bool = True) -> None:
        self._text = b""
        if is_sound:
            self._stage = Stage.IDLE
        else:
            self.abort()
        outcome, self._outcome = self._outcome, None
        if outcome is None or outcome.done():
            return
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(None)
