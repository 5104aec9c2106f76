"""The messages an emulated account has accepted: their life, and the bounded store that keeps them.

A message's status is not stored: it follows from its plan (when it started, how long until it is final,
what the final status is) and the time. So a million messages in flight need neither timers nor a sweep.
"""

import secrets
from array import array
from collections.abc import Iterator
from typing import Final, Literal

import msgspec

from stack.standin.record_ring import RecordRing

FinalStatus = Literal["queued", "sending", "sent", "delivered", "read", "undelivered", "failed"]

# The statuses a message passes after its initial one, evenly spread over its delivery time.
PATHS: Final[dict[str, tuple[str, ...]]] = {
    "queued": (),
    "sending": ("sending",),
    "sent": ("sending", "sent"),
    "delivered": ("sending", "sent", "delivered"),
    "read": ("sending", "sent", "delivered", "read"),
    "undelivered": ("sending", "sent", "undelivered"),
    "failed": ("sending", "failed"),
}
FAILURES: Final = frozenset({"undelivered", "failed"})
FINISHED: Final = FAILURES | {"sent", "delivered", "read", "received", "canceled"}
DUPLICATES_SHOWN_MAX: Final = 100


class Message(msgspec.Struct, kw_only=True, gc=False, omit_defaults=True):
    """An accepted message. Times are UNIX times in seconds.

    Not tracked by the garbage collector: it refers to no containers, and collections over millions of
    messages would stall the server.
    """

    to: str
    sender: str | None
    body: str
    number: int = 0
    created: float = 0.0
    service_sid: str | None = None
    media_count: int = 0
    segments: int = 1
    callback_url: str | None = None
    initial: Literal["queued", "accepted", "scheduled", "received"] = "queued"
    send_at: float | None = None  # only of a scheduled message
    final: FinalStatus | Literal["received", "canceled", "deleted"] = "delivered"
    error_code: int | None = None  # shown once the message has failed
    delivery_s: float = 0.0
    edited: float | None = None  # redacted or canceled then

    @property
    def inbound(self) -> bool:
        """Whether the message came from a handset."""
        return self.initial == "received"

    def steps(self) -> list[tuple[float, str]]:
        """Return every status after the initial one with the time it is reached."""
        path = PATHS.get(self.final, ())
        if self.initial in {"accepted", "scheduled"} and path:
            path = ("queued", *path)
        start = self.created if self.send_at is None else self.send_at
        stride = self.delivery_s / max(len(path), 1)
        return [(start + stride * place, status) for place, status in enumerate(path, start=1)]

    def standing(self, now: float) -> tuple[str, float, float | None]:
        """Return the status at `now`, since when, and when the message was sent (None: it is not yet)."""
        if self.inbound:
            return "received", self.created, self.created
        if self.final == "canceled":
            return "canceled", self.edited or self.created, None
        status: str = self.initial
        since, sent = self.created, None
        for at, step in self.steps():
            if at > now:
                break
            status, since = step, at
            sent = at if step == "sent" else sent
        return status, since, sent


class MessageStore:
    """The messages by number, by recipient, by sender and by (recipient, text), about 0.7 kB each.

    The chains by recipient and by sender are linked lists kept in arrays: with millions of recipients of
    one message each, a dictionary of lists would cost three times as much.
    """

    def __init__(self, messages_max: int) -> None:
        self.ring: RecordRing[Message] = RecordRing(messages_max)
        self.clear()

    def clear(self, run: int | None = None, first: int = 1) -> None:
        """Forget everything. Sids carry the `run`, so those of before the clearing become unknown."""
        self.run = secrets.randbits(64) if run is None else run
        self.ring.clear(first)
        self._earlier_to, self._earlier_from, self._text_keys = array("q"), array("q"), array("q")
        self._latest_to: dict[str, int] = {}
        self._latest_from: dict[str, int] = {}
        self._latest_text: dict[int, int] = {}
        self.sending_s_max = 0.0  # the longest time between creation and final status
        self.duplicates = 0
        self.first_duplicates: list[tuple[int, int]] = []

    def append(self, message: Message) -> None:
        """Keep a message; number it unless it is a restored one."""
        number = message.number = self.ring.next_number
        evicted = self.ring.append(message)
        slot = self.ring.slot(number)
        if evicted is None:
            for links in (self._earlier_to, self._earlier_from, self._text_keys):
                links.append(0)
        else:
            self._unlink(evicted, slot)
        self._earlier_to[slot] = self._latest_to.get(message.to, 0)
        self._latest_to[message.to] = number
        if message.sender is not None:
            self._earlier_from[slot] = self._latest_from.get(message.sender, 0)
            self._latest_from[message.sender] = number
        self._note_text(message, slot)
        start = message.created if message.send_at is None else message.send_at
        self.sending_s_max = max(self.sending_s_max, start - message.created + message.delivery_s)

    def _note_text(self, message: Message, slot: int) -> None:
        # A 64-bit hash stands for the text: two of a million texts collide once in ten million runs.
        key = self._text_keys[slot] = hash((message.to, message.body))
        earlier = self._latest_text.get(key)
        self._latest_text[key] = message.number
        if earlier is not None and not message.inbound:
            self.duplicates += 1
            if len(self.first_duplicates) < DUPLICATES_SHOWN_MAX:
                self.first_duplicates.append((earlier, message.number))

    def _unlink(self, evicted: Message, slot: int) -> None:
        if self._latest_to.get(evicted.to) == evicted.number:
            del self._latest_to[evicted.to]
        if evicted.sender is not None and self._latest_from.get(evicted.sender) == evicted.number:
            del self._latest_from[evicted.sender]
        if self._latest_text.get(self._text_keys[slot]) == evicted.number:
            del self._latest_text[self._text_keys[slot]]

    def sid(self, message: Message) -> str:
        """Return the message's sid: it holds the number, so no index by sid is needed."""
        return f"{'MM' if message.media_count else 'SM'}{self.run:016x}{message.number:016x}"

    def newest_sid(self) -> str:
        """Return the sid of the newest message, or "" if there is none."""
        newest = self.ring.get(self.ring.next_number - 1)
        return "" if newest is None else self.sid(newest)

    def number_of(self, sid: str) -> int | None:
        """Return the message number in a sid of this run."""
        if len(sid) != 34 or sid[2:18] != f"{self.run:016x}":  # noqa: PLR2004 - a sid's length
            return None
        try:
            return int(sid[18:], 16)
        except ValueError:
            return None

    def find(self, sid: str) -> Message | None:
        """Return the message of this sid, or None."""
        number = self.number_of(sid)
        message = None if number is None else self.ring.get(number)
        return None if message is None or message.final == "deleted" or self.sid(message) != sid else message

    def newest_first(self, to: str | None, sender: str | None, below: int | None) -> Iterator[Message]:
        """Yield messages numbered under `below`, along the shortest chain there is. The caller filters."""
        page_end = None if below is None else self.ring.get(below)
        if to is not None:
            # A page token of the same chain saves walking it from its head again.
            on_chain = page_end is not None and page_end.to == to
            return self._along(self._earlier_to, self._latest_to.get(to, 0), below, on_chain=on_chain)
        if sender is not None:
            on_chain = page_end is not None and page_end.sender == sender
            return self._along(self._earlier_from, self._latest_from.get(sender, 0), below, on_chain=on_chain)
        return self.ring.downwards(self.ring.next_number if below is None else below - 1)

    def _along(
        self, links: "array[int]", head: int, below: int | None, *, on_chain: bool
    ) -> Iterator[Message]:
        number = links[self.ring.slot(below)] if on_chain and below is not None else head
        while number >= self.ring.oldest_number:
            message = self.ring.get(number)
            if message is not None and (below is None or number < below):
                yield message
            number = links[self.ring.slot(number)]
