"""The account's list of messages, newest first: filters and pages as Twilio has them."""

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, Final
from urllib.parse import urlencode

from stack.twilio.errors import RequestRefused
from stack.twilio.messages import Message, MessageStore

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 1000
_DAY_S: Final = 86_400.0
_DATE_CHARS: Final = len("2008-01-02")


class DateFilter:
    """The DateSent filters. A message not sent yet counts by the time it was created."""

    def __init__(self, query: Mapping[str, str]) -> None:
        self._from, self._until = float("-inf"), float("inf")
        if text := query.get("DateSent"):
            day = _moment(text) // _DAY_S * _DAY_S
            self._from, self._until = day, day + _DAY_S
        if text := query.get("DateSent>"):
            self._from = max(self._from, _moment(text))
        if text := query.get("DateSent<"):
            # A date means all of that day, a time that second.
            self._until = min(self._until, _moment(text) + (_DAY_S if len(text) == _DATE_CHARS else 1.0))

    def admits(self, message: Message, now: float) -> bool:
        """Tell whether the message was sent in time."""
        _, _, sent = message.standing(now)
        return self._from <= (message.created if sent is None else sent) < self._until

    def ends_before(self, message: Message, sending_s_max: float) -> bool:
        """Tell whether this message and all older ones are too old."""
        return message.created + sending_s_max < self._from


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        try:
            moment = parsedate_to_datetime(text)
        except ValueError as error:
            raise RequestRefused(20001, f"DateSent {text[:40]!r}") from error
    return (moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment).timestamp()


class MessageList:
    """One request for a page of the list."""

    def __init__(self, store: MessageStore, path: str, query: Mapping[str, str]) -> None:
        self._store = store
        self._path = path
        self._to, self._sender = query.get("To") or None, query.get("From") or None
        self._dates = DateFilter(query)
        self._filters = {
            name: query[name]
            for name in ("To", "From", "DateSent", "DateSent<", "DateSent>")
            if name in query
        }
        self._size = min(_whole(query, "PageSize", PAGE_SIZE_DEFAULT, 1), PAGE_SIZE_MAX)
        self._page = _whole(query, "Page", 0, 0)
        self._token = query.get("PageToken", "")

    def read(
        self, now: float, visible_until: float, describe: Callable[[Message, float], dict[str, Any]]
    ) -> dict[str, Any]:
        """Return the page as JSON-ready data; messages created after `visible_until` are not listed yet."""
        found, more = self._messages(now, visible_until)
        start = self._page * self._size
        return {
            "messages": [describe(message, now) for message in found],
            "page": self._page,
            "page_size": self._size,
            "start": start,
            "end": start + max(len(found) - 1, 0),
            "uri": self._uri(self._page, self._token),
            "first_page_uri": self._uri(0, ""),
            "next_page_uri": self._uri(self._page + 1, f"PA{self._store.sid(found[-1])}") if more else None,
            "previous_page_uri": (
                self._uri(self._page - 1, f"PB{self._store.sid(found[0])}") if self._page and found else None
            ),
        }

    def _messages(self, now: float, visible_until: float) -> tuple[list[Message], bool]:
        if self._token.startswith("PB"):
            newer = self._store.ring.upwards(self._token_number() + 1)
            nearest = list(islice(self._admitted(newer, now, visible_until), self._size))
            return nearest[::-1], True
        below = self._token_number() if self._token else None
        skipped = 0 if self._token else self._page * self._size
        older = self._recent(self._store.newest_first(self._to, self._sender, below))
        found = list(islice(self._admitted(older, now, visible_until), skipped, skipped + self._size + 1))
        return found[: self._size], len(found) > self._size

    def _recent(self, newest_first: Iterator[Message]) -> Iterator[Message]:
        for message in newest_first:
            if self._dates.ends_before(message, self._store.sending_s_max):
                return
            yield message

    def _admitted(self, messages: Iterator[Message], now: float, visible_until: float) -> Iterator[Message]:
        for message in messages:
            if (
                message.final != "deleted"
                and (self._to is None or message.to == self._to)
                and (self._sender is None or message.sender == self._sender)
                and message.created <= visible_until
                and self._dates.admits(message, now)
            ):
                yield message

    def _token_number(self) -> int:
        number = self._store.number_of(self._token[2:]) if self._token[:2] in {"PA", "PB"} else None
        if number is None:
            raise RequestRefused(20001, "PageToken")
        return number

    def _uri(self, page: int, token: str) -> str:
        query = {**self._filters, "PageSize": self._size, "Page": page} | (
            {"PageToken": token} if token else {}
        )
        return f"{self._path}?{urlencode(query)}"


def _whole(query: Mapping[str, str], name: str, default: int, least: int) -> int:
    text = query.get(name, str(default))
    if not (text.isascii() and text.isdigit()) or int(text) < least:
        raise RequestRefused(20001, name)
    return int(text)
