"""The mails a sink has taken: bounded by number and by bytes, optionally spooled to disk.

When the bytes run out, the oldest mails lose their text but keep their envelope and Message-ID, because
that is what proves that nothing was lost or sent twice. When the number runs out, the oldest mail goes.
Both are counted. Nothing is parsed on receipt except the Message-ID.
"""

import re
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import msgspec

from stack.standin.record_ring import RecordRing
from stack.standin.turnstile import Turnstile

DUPLICATES_SHOWN_MAX: Final = 100
MESSAGE_ID_BYTES_MAX: Final = 998

_MESSAGE_ID: Final = re.compile(rb"(?:\A|\r\n)message-id:[ \t\r\n]*([^\r\n]+)", re.IGNORECASE)
_HEADER_END: Final = b"\r\n\r\n"


class Mail(msgspec.Struct, kw_only=True, gc=False):
    """One mail as it came in. `raw` is None once it was evicted from memory."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    raw: bytes | None
    connection: int
    number_in_connection: int
    received_at: float
    tls: bool = False
    smtputf8: bool = False
    number: int = 0
    size: int = 0
    message_id: str | None = None


def find_message_id(raw: bytes) -> str | None:
    """Return the Message-ID without parsing the mail."""
    header_end = raw.find(_HEADER_END)
    found = _MESSAGE_ID.search(raw, 0, len(raw) if header_end < 0 else header_end)
    return found[1].strip()[:MESSAGE_ID_BYTES_MAX].decode("utf-8", "replace") if found else None


class Spool:
    """Mails as `.eml` files in one new directory per run, exactly the bytes that came in.

    Written before the reply and in the event loop: a sink that spools is not one that is benchmarked.
    """

    def __init__(self, data_dir: Path, bytes_max: int) -> None:
        started = datetime.now(UTC).strftime("%Y%m%dT%H%M%S.%fZ")
        self.directory = data_dir / "spool" / started
        self.directory.mkdir(parents=True)
        self._bytes_max = bytes_max
        self.clear()

    def clear(self) -> None:
        """Delete this run's files."""
        shutil.rmtree(self.directory)
        self.directory.mkdir()
        self.files = self.bytes = self.skipped = 0

    def write(self, mail: Mail, raw: bytes) -> None:
        """Write one mail, unless the spool is full or the disk is."""
        if self.bytes + len(raw) > self._bytes_max:
            self.skipped += 1
            return
        try:
            self._path(mail).write_bytes(raw)
        except OSError:
            self.skipped += 1
            return
        self.files += 1
        self.bytes += len(raw)

    def read(self, mail: Mail) -> bytes | None:
        """Return a spooled mail's bytes, or None if it was skipped."""
        try:
            return self._path(mail).read_bytes()
        except FileNotFoundError:
            return None

    def _path(self, mail: Mail) -> Path:
        return self.directory / f"{mail.number:09d}.eml"


class MailStore:
    """The mails by number, with the duplicates among them by Message-ID."""

    def __init__(self, mails_max: int, bytes_max: int, spool: Spool | None = None) -> None:
        self.ring: RecordRing[Mail] = RecordRing(mails_max)
        self.bytes_max = bytes_max
        self.spool = spool
        self.accepted = Turnstile()
        self._forget()

    def _forget(self) -> None:
        self.bytes = 0
        self.body_evictions = 0
        self._oldest_body = self.ring.next_number
        self._latest_of_id: dict[str, int] = {}
        self.without_id = 0
        self.duplicates = 0
        self.first_duplicates: list[tuple[int, int]] = []

    def clear(self) -> None:
        """Forget everything, on disk too; mails are numbered from 1 again."""
        self.ring.clear()
        self.accepted.reset()
        self._forget()
        if self.spool is not None:
            self.spool.clear()

    def append(self, mail: Mail, raw: bytes) -> int:
        """Keep a mail and return its number."""
        mail.number = self.ring.next_number
        mail.size = len(raw)
        mail.message_id = find_message_id(raw)
        evicted = self.ring.append(mail)
        if evicted is not None:
            self.bytes -= 0 if evicted.raw is None else evicted.size
            if evicted.message_id is not None and self._latest_of_id[evicted.message_id] == evicted.number:
                del self._latest_of_id[evicted.message_id]
        self._note_id(mail)
        if self.spool is not None:
            self.spool.write(mail, raw)
        self.bytes += mail.size
        while self.bytes > self.bytes_max:
            self._evict_oldest_body()
        self.accepted.add()
        return mail.number

    def _note_id(self, mail: Mail) -> None:
        if mail.message_id is None:
            self.without_id += 1
            return
        earlier = self._latest_of_id.get(mail.message_id)
        self._latest_of_id[mail.message_id] = mail.number
        if earlier is not None:
            self.duplicates += 1
            if len(self.first_duplicates) < DUPLICATES_SHOWN_MAX:
                self.first_duplicates.append((earlier, mail.number))

    def _evict_oldest_body(self) -> None:
        self._oldest_body = max(self._oldest_body, self.ring.oldest_number)
        mail = self.ring.get(self._oldest_body)
        assert mail is not None
        self._oldest_body += 1
        if mail.raw is not None:
            self.bytes -= mail.size
            mail.raw = None
            self.body_evictions += 1

    def raw(self, mail: Mail) -> bytes | None:
        """Return a mail's bytes from memory or from the spool, or None."""
        if mail.raw is not None or self.spool is None:
            return mail.raw
        return self.spool.read(mail)
