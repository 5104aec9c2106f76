"""When the stand-ins accepted messages, by recipient, on their own clock."""

from collections.abc import AsyncIterator
from typing import Any

import aiohttp

from loadtest.sinks import SinkError

_PAGE = 10_000
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Acceptances:
    """Reads what the Twilio emulator and the SMTP sink took."""

    def __init__(self, session: aiohttp.ClientSession, *, smtp_api: str, twilio_api: str) -> None:
        self._session = session
        self._smtp_api = smtp_api
        self._twilio_api = twilio_api

    async def sms_count(self) -> int:
        """Return how many SMS were accepted in all."""
        return int((await self._get(f"{self._twilio_api}/requests"))["messages"]["total"])

    async def mail_count(self) -> int:
        """Return how many mails were accepted in all."""
        return int((await self._get(f"{self._smtp_api}/stats"))["messages"]["total"])

    async def sms_times(self, since: float) -> dict[str, float]:
        """Return the UNIX time of acceptance by number, the first for each, of those after `since`."""
        found: dict[str, float] = {}
        async for message in self._all(self._twilio_api, since):
            found.setdefault(message["to"], message["created_at"])
        return found

    async def mail_times(self, since: float) -> dict[str, float]:
        """Return the UNIX time of acceptance by address, the first for each, of those after `since`."""
        found: dict[str, float] = {}
        async for mail in self._all(self._smtp_api, since):
            found.setdefault(mail["rcpt_tos"][0], mail["received_at"])
        return found

    async def _all(self, api: str, since: float) -> AsyncIterator[dict[str, Any]]:
        after: int | None = 0
        while after is not None:
            page = await self._get(f"{api}/messages?since={since}&after={after}&limit={_PAGE}")
            for one in page["messages"]:
                yield one
            after = page["next_after"]

    async def _get(self, url: str) -> Any:
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as answer:
                answer.raise_for_status()
                return await answer.json()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SinkError(f"{url} does not answer: {type(error).__name__}") from error
