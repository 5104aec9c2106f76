"""SMS by Twilio's Messages API."""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final, Protocol

from pipeline.errors import OutcomeUnknownError
from pipeline.notifications.notification import Sms
from pipeline.notifications.provider import Accepted, Evidence
from pipeline.notifications.providers.twilio_inquiry import Inquiry
from pipeline.notifications.providers.twilio_lean import LeanClient
from pipeline.notifications.providers.twilio_reply import Reply, read_created
from pipeline.notifications.sms.error_table import ErrorTable
from pipeline.settings import SmsSettings

_SIDS_KEPT: Final = 10_000


class TwilioClient(Protocol):
    """Makes requests; the conformance tests run against each.

    Raises ThrottledError or LeaseEndedError when nothing was written, OutcomeUnknownError when a request
    was and no whole reply came. Follows no redirects and repeats nothing.
    """

    async def create(self, message: Sms) -> Reply:
        """Ask for a message to be sent."""

    async def get(self, target: str) -> Reply:
        """Fetch a path with its query."""

    async def close(self) -> None:
        """Close every connection."""


class TwilioProvider:
    """Sends SMS through one Twilio account. Raises SettingsError for a table of errors that is not valid."""

    def __init__(
        self,
        settings: SmsSettings,
        *,
        name: str = "twilio",
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.name = name
        self._client = _client_of(settings, monotonic)
        self._errors = ErrorTable.load()
        self._sids: dict[str, None] = {}  # the latest, the oldest first
        self._inquiry = Inquiry(settings, self._client.get)

    async def send(self, message: Sms) -> Accepted:
        """Send one SMS. See SmsProvider for the errors."""
        reply = await self._client.create(message)
        accepted = read_created(reply, self._errors, to=message.to, provider=self.name)
        if accepted.provider_id in self._sids:
            raise OutcomeUnknownError("bad_reply", "the sid is another message's")
        self._sids[accepted.provider_id] = None
        if len(self._sids) > _SIDS_KEPT:
            del self._sids[next(iter(self._sids))]
        return accepted

    async def find(self, message: Sms, since: datetime) -> Evidence:
        """Ask whether an SMS tried at `since` or later was accepted. See SmsProvider."""
        return await self._inquiry.find(message, since, provider=self.name)

    async def close(self) -> None:
        """Close every connection."""
        await self._client.close()


def _client_of(settings: SmsSettings, monotonic: Callable[[], float]) -> TwilioClient:
    if settings.client == "lean":
        return LeanClient(settings, monotonic)
    # Imported when it is asked for: the SDK takes a tenth of a second and 6 MB.
    from pipeline.notifications.providers.twilio_sdk import SdkClient  # noqa: PLC0415

    return SdkClient(settings, monotonic)
