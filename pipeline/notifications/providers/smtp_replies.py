"""Replies of an SMTP server, taken apart strictly: what is no reply ends the session (RFC 5321 4.2)."""

import re
from typing import NamedTuple

REPLY_BYTES_MAX = 32_768  # one reply with all its lines; real ones have a few hundred
_line_at = re.compile(
    rb"([2-5][0-9][0-9])(?:([ -])(?:([245]\.[0-9]{1,3}\.[0-9]{1,3})(?=[ \r\n]))?[^\r\n]*)?\r?\n"
).match


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
        if self.rest:
            data = self.rest + data
        replies, at = [], 0
        while (found := _line_at(data, at)) is not None:
            code, mark, enhanced = found.groups()
            status = enhanced.decode() if enhanced else ""
            if mark == b"-" or self._code:
                status = self._of_many(code, status, found.end() - at, is_last=mark != b"-")
            at = found.end()
            if mark != b"-":
                replies.append(Reply(int(code), status))
        self.rest = data[at:]
        if b"\n" in self.rest:
            raise NotAReplyError("not a line of a reply")
        if self._bytes + len(self.rest) > REPLY_BYTES_MAX:
            raise NotAReplyError("a reply without end")
        return replies

    def _of_many(self, code: bytes, status: str, size: int, *, is_last: bool) -> str:
        """Take a line of a reply of several; return the first enhanced status there was."""
        if self._code and code != self._code:
            raise NotAReplyError("a reply of two codes")
        if self._bytes + size > REPLY_BYTES_MAX:  # here too: all of it may have come at once, with its end
            raise NotAReplyError("a reply without end")
        status = self._enhanced or status
        if is_last:
            self._code, self._enhanced, self._bytes = b"", "", 0
        else:
            self._code, self._enhanced, self._bytes = code, status, self._bytes + size
        return status
