"""Replies of an SMTP server, taken apart strictly: what is no reply ends the session (RFC 5321 4.2)."""

import re
from typing import NamedTuple

REPLY_BYTES_MAX = 32_768  # one reply with all its lines; real ones have a few hundred
_LINE = re.compile(
    rb"([2-5][0-9][0-9])(?:([ -])(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=[ \r\n]))?[^\r\n]*)?\r?\n"
)


class Reply(NamedTuple):
    """A reply's code and its enhanced status (RFC 3463), if any. Its text may quote addresses: not kept."""

    code: int
    enhanced: str

    @property
    def status(self) -> str:
        """Return `550 5.1.1`, or `550` where there is no enhanced status."""
        return f"{self.code} {self.enhanced}".rstrip()


class NotAReplyError(ValueError):
    """The server sent something else, or a reply without end: nobody knows what is answered by what."""


class ReplyReader:
    """Cuts what comes in into replies. `rest` is what does not make a whole reply yet."""

    def __init__(self) -> None:
        self.rest = b""
        self._code = b""
        self._enhanced = ""
        self._bytes = 0

    @property
    def is_between_replies(self) -> bool:
        """Whether nothing has come since the last whole reply."""
        return not self.rest and not self._code

    def feed(self, data: bytes) -> list[Reply]:
        """Return the replies that are complete with this. Raises NotAReplyError."""
        data = self.rest + data
        replies, at = [], 0
        while at < len(data):
            end = data.find(b"\n", at) + 1
            if not end:
                break
            reply = self._line(data[at:end])
            if reply is not None:
                replies.append(reply)
            at = end
        self.rest = data[at:]
        if self._bytes + len(self.rest) > REPLY_BYTES_MAX:
            raise NotAReplyError("a reply without end")
        return replies

    def _line(self, line: bytes) -> Reply | None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise NotAReplyError("not a line of a reply")
        code, mark, enhanced = found.groups()
        if self._code and code != self._code:
            raise NotAReplyError("a reply of two codes")
        if enhanced and not self._enhanced:
            self._enhanced = enhanced.decode()
        if mark == b"-":
            self._code = code
            self._bytes += len(line)
            return None
        reply = Reply(int(code), self._enhanced)
        self._code, self._enhanced, self._bytes = b"", "", 0
        return reply
