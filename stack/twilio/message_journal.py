"""What an emulated account accepted, on disk: a provider that restarts has forgotten nothing.

JSON lines in numbered segments. A line is written before the reply goes out and without a buffer of its
own, so it survives the end of this process; it is not synced, so it may not survive the machine's. Old
segments are deleted once the store in memory keeps none of their messages.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Final, Literal

import msgspec

from stack.twilio.messages import Message

SEGMENT_LINES_MAX: Final = 250_000
SEGMENTS_MAX: Final = 64


class Opened(msgspec.Struct, frozen=True, tag="opened"):
    """The head of a segment: what is needed if all earlier ones are gone."""

    run: str  # hexadecimal, because JSON readers other than Python lose digits of 64-bit integers
    first: int
    opted_out: list[str]


class Accepted(msgspec.Struct, frozen=True, tag="accepted"):
    """A message was accepted."""

    message: Message


class Amended(msgspec.Struct, frozen=True, tag="amended", omit_defaults=True):
    """A message was redacted, canceled or deleted."""

    number: int
    at: float
    body: str | None = None
    final: Literal["canceled", "deleted"] | None = None


class OptOutChanged(msgspec.Struct, frozen=True, tag="opt_out"):
    """A recipient opted out or in again."""

    recipient: str
    out: bool


Entry = Opened | Accepted | Amended | OptOutChanged


class MessageJournal:
    """The segments in one directory; `write` appends to the last one."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._encoder = msgspec.json.Encoder()
        self._segments = sorted(directory.glob("messages-*.jsonl"))
        self._firsts: dict[Path, int] = {}
        self._lines = 0
        self._file = None if not self._segments else self._segments[-1].open("ab", buffering=0)

    @property
    def needs_segment(self) -> bool:
        """Whether the next line belongs into a new segment."""
        return self._file is None or self._lines >= SEGMENT_LINES_MAX

    def replay(self) -> Iterator[Entry]:
        """Yield everything written, oldest first. A line torn by a kill ends its segment."""
        decoder = msgspec.json.Decoder(Entry)
        for segment in self._segments:
            self._lines = 0
            with segment.open("rb") as lines:
                for line in lines:
                    try:
                        entry = decoder.decode(line)
                    except msgspec.DecodeError:
                        break
                    if isinstance(entry, Opened):
                        self._firsts[segment] = entry.first
                    self._lines += 1
                    yield entry
        # A torn line must not swallow the next one.
        self._lines = SEGMENT_LINES_MAX

    def open_segment(self, head: Opened, oldest_kept: int) -> None:
        """Begin a new segment and delete those that hold no message from `oldest_kept` on."""
        self.close()
        number = 1 + (int(self._segments[-1].stem.removeprefix("messages-")) if self._segments else 0)
        segment = self._directory / f"messages-{number:06d}.jsonl"
        self._segments.append(segment)
        self._firsts[segment] = head.first
        self._file = segment.open("ab", buffering=0)
        self._lines = 0
        self.write(head)
        while len(self._segments) > 1 and (
            len(self._segments) > SEGMENTS_MAX or self._firsts.get(self._segments[1], 0) <= oldest_kept
        ):
            self._segments.pop(0).unlink(missing_ok=True)

    def write(self, entry: Entry) -> None:
        """Append one line."""
        assert self._file is not None
        self._file.write(self._encoder.encode(entry) + b"\n")
        self._lines += 1

    def clear(self) -> None:
        """Delete all segments."""
        self.close()
        for segment in self._segments:
            segment.unlink(missing_ok=True)
        self._segments.clear()
        self._firsts.clear()

    def close(self) -> None:
        """Close the open segment."""
        if self._file is not None:
            self._file.close()
            self._file = None
