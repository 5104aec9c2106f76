"""Mails out of a mailbox on disk: a Maildir, or a file in mbox form. Each mail at most so many bytes."""

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from pipeline.errors import PostorderError
from pipeline.notifications.mail.bounces import READ_BYTES_MAX

_SEEN = ":2,S"


class MailboxError(PostorderError):
    """The mailbox cannot be read."""


class Mailbox:
    """A mailbox that other programs add to. Mutable state: `_at`, how far an mbox file was read.

    A mail of a Maildir is moved from `new` to `cur` when it was taken in; of an mbox file the place is kept
    for as long as this object lives. So after a crash some are read again, and none is missed.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0
        if not path.exists():
            raise MailboxError(f"{path}: no such file or folder")
        if path.is_dir() and not (path / "new").is_dir():
            raise MailboxError(f"{path}: is no Maildir: it has no folder `new`")

    def unread(self) -> Iterator[bytes]:
        """Yield what is new; a mail counts as read when the next one is asked for. Raises MailboxError."""
        try:
            yield from self._of_maildir() if self._path.is_dir() else self._of_mbox()
        except OSError as error:
            raise MailboxError(f"{self._path}: {error.strerror}") from error

    def _of_maildir(self) -> Iterator[bytes]:
        for path in sorted((self._path / "new").iterdir()):
            if path.is_file() and not path.name.startswith("."):
                with path.open("rb") as file:
                    yield file.read(READ_BYTES_MAX)
                (self._path / "cur").mkdir(exist_ok=True)
                path.rename(self._path / "cur" / f"{path.name}{_SEEN}")

    def _of_mbox(self) -> Iterator[bytes]:
        if self._path.stat().st_size < self._at:
            self._at = 0  # another program has emptied it
        with self._path.open("rb") as file:
            file.seek(self._at)
            for mail, end in _mails(file):
                yield mail
                self._at = end


def _mails(file: BinaryIO) -> Iterator[tuple[bytes, int]]:
    """Yield each mail, cut off where it gets too long, and where in the file it ends.

    A line that begins with `From ` begins a mail; within a mail it is written `>From `.
    """
    lines: list[bytes] = []
    size, is_mail = 0, False
    end = file.tell()
    while line := file.readline(READ_BYTES_MAX):
        if line.startswith(b"From "):
            if is_mail:
                yield b"".join(lines), end
            lines, size, is_mail = [], 0, True
        elif size < READ_BYTES_MAX:
            lines.append(line)
            size += len(line)
        end = file.tell()
    if is_mail:
        yield b"".join(lines), end
