"""What arrived at the stand-ins for the world outside, read over their HTTP APIs."""

from collections import Counter
from typing import Any

import aiohttp

from pipeline.errors import PostorderError

_PAGE = 500
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class SinkError(PostorderError):
    """A stand-in did not answer as it should."""


class Sinks:
    """Reads the SMTP sink and the Twilio emulator."""

    def __init__(self, session: aiohttp.ClientSession, *, smtp_api: str, twilio_api: str) -> None:
        self._session = session
        self._smtp_api = smtp_api
        self._twilio_api = twilio_api

    async def sms(self) -> tuple[int, int]:
        """Return how many SMS were accepted, and how many of them were sent twice."""
        found = (await self._get(f"{self._twilio_api}/requests"))["messages"]
        return found["total"], found["duplicates"]

    async def mails(self) -> tuple[int, int]:
        """Return how many mails were accepted, and how many of them were sent twice."""
        found = (await self._get(f"{self._smtp_api}/stats"))["messages"]
        return found["total"], found["duplicates"]

    async def attachments(self, after: int) -> Counter[str]:
        """Return how often each attachment, by SHA-256, arrived in mails later than number `after`."""
        seen: Counter[str] = Counter()
        cursor: int | None = after
        while cursor is not None:
            page = await self._get(f"{self._smtp_api}/messages?bodies=1&limit={_PAGE}&after={cursor}")
            for mail in page["messages"]:
                seen.update(_attachment_hashes(mail["parsed"]["part"]))
            cursor = page["next_after"]
        return seen

    async def _get(self, url: str) -> Any:
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as answer:
                answer.raise_for_status()
                return await answer.json()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SinkError(f"{url} does not answer: {type(error).__name__}") from error


def _attachment_hashes(part: dict[str, Any]) -> list[str]:
    if part.get("disposition") == "attachment":
        return [part["sha256"]]
    return [found for child in part.get("parts") or [] for found in _attachment_hashes(child)]
