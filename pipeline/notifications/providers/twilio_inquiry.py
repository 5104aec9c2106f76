"""Whether Twilio has a message: its list of what went to the same number, read and compared.

There is no key to ask by, so the evidence is recipient, sender, time and text. The list is filtered by
recipient and sender only: its date filter is about sending, which a queued message has not been through.
"""

from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Final
from urllib.parse import urlencode

import msgspec

from pipeline.errors import ProviderError
from pipeline.notifications.notification import Sms
from pipeline.notifications.provider import CannotTell, Evidence, Found, NotFound
from pipeline.notifications.providers.twilio_lean import messages_path
from pipeline.notifications.providers.twilio_reply import Reply, error_code
from pipeline.notifications.sms.likeness import Likeness, Listed, judge
from pipeline.settings import SmsSettings

PAGE_SIZE: Final = 1000  # the API's maximum
PAGES_MAX: Final = 5


class _Page(msgspec.Struct):
    messages: list[Listed]
    next_page_uri: str | None = None


_decode_page = msgspec.json.Decoder(_Page).decode


class Inquiry:
    """Asks for messages. `get` fetches a path with its query."""

    def __init__(self, settings: SmsSettings, get: Callable[[str], Awaitable[Reply]]) -> None:
        self._get = get
        self._path = messages_path(settings)
        self._sender = settings.from_number
        self._service = settings.messaging_service_sid

    async def find(self, message: Sms, since: datetime, *, provider: str) -> Evidence:
        """Return what the list says; `provider`: the name to find it under. Raises nothing."""
        query = {"To": message.to, **({"From": self._sender} if self._sender else {})}
        target: str | None = f"{self._path}?{urlencode({**query, 'PageSize': PAGE_SIZE})}"
        doubt = ""
        for _ in range(PAGES_MAX):
            page = await self._page(target)
            if isinstance(page, CannotTell):
                return page
            found, why = self._look(page.messages, message, since)
            if found is not None:
                return Found(provider, found.sid, found.status)
            doubt = doubt or why
            target = page.next_page_uri
            if target is None:
                return CannotTell(doubt, is_final=True) if doubt else NotFound()
        return CannotTell("list_too_long", is_final=True)

    async def _page(self, target: str | None) -> _Page | CannotTell:
        if target is None or not target.startswith(f"{self._path}?") or not target.isascii():
            return CannotTell("bad_list", is_final=False)  # credentials go nowhere else
        try:
            reply = await self._get(target)
            if not reply.is_success:
                return CannotTell(error_code(reply), is_final=False)
            return _decode_page(reply.body)
        except ProviderError as error:
            return CannotTell(error.code, is_final=False)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return CannotTell("bad_list", is_final=False)

    def _look(self, listed: Sequence[Listed], message: Sms, since: datetime) -> tuple[Listed | None, str]:
        """Return the message itself, or what makes it doubtful that it is not there."""
        doubt = ""
        for one in listed:
            if not self._is_sender_of(one):
                continue
            likeness = judge(one, message.body, since)
            if likeness is not Likeness.OTHER and one.to != message.to:
                doubt = "other_number"  # redacted, or written in another way: the list is of this number's
            elif likeness is Likeness.SAME:
                return one, ""
            elif likeness is not Likeness.OTHER:
                doubt = likeness.value
        return None, doubt

    def _is_sender_of(self, one: Listed) -> bool:
        if self._service:
            return one.messaging_service_sid == self._service
        return one.from_ == self._sender
