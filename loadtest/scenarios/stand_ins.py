"""The stand-ins for the providers: what they took from a run, when, and how they are told to misbehave."""

from typing import Any

import aiohttp
import numpy as np

from loadtest.scenarios.arrivals import Floats
from loadtest.scenarios.event_bodies import EventBodies
from loadtest.sinks import SinkError
from stack.status import StackStatus

_PAGE = 5000
_TIMEOUT = aiohttp.ClientTimeout(total=30)


class Taken:
    """When the messages of a run were accepted, by the number of their order; the first of each.

    `again`: how many more came to the same recipient; a customer with an invoice gets two mails.
    """

    def __init__(self, orders: int) -> None:
        self.at: Floats = np.full(orders, np.nan)
        self.count = 0
        self.again = 0

    def note(self, number: int | None, at: float) -> None:
        """Take a message to the customer of an order; None, or a number too large: of another run."""
        if number is None or number >= len(self.at):
            return
        self.count += 1
        if np.isnan(self.at[number]):
            self.at[number] = at
        else:
            self.again += 1


class StandIns:
    """The Twilio emulator and the SMTP sink of a stack. Mutable state: what of the run was read so far."""

    def __init__(self, session: aiohttp.ClientSession, stack: StackStatus, bodies: EventBodies) -> None:
        self._session = session
        self._apis = {"sms": stack.twilio.api_url, "email": stack.smtp.api_url}
        self._bodies = bodies
        self._after = {"sms": 0, "email": 0}
        self._doubles = {"sms": 0, "email": 0}
        self.sms = Taken(0)
        self.mails = Taken(0)

    async def begin(self, orders: int) -> None:
        """Count from here on; `orders`: of the run. Raises SinkError."""
        self.sms, self.mails = Taken(orders), Taken(orders)
        for channel in self._apis:
            totals = await self._totals(channel)
            self._after[channel], self._doubles[channel] = totals["total"], totals["duplicates"]

    async def read(self) -> None:
        """Take in what came since the last time. Raises SinkError."""
        await self._read("sms")
        await self._read("email")

    async def duplicates(self) -> dict[str, int]:
        """Return how many messages were sent twice since the beginning, by channel. Raises SinkError."""
        return {
            channel: (await self._totals(channel))["duplicates"] - before
            for channel, before in self._doubles.items()
        }

    async def pending_callbacks(self) -> int:
        """Return how many callbacks the emulator has not delivered yet. Raises SinkError."""
        found: int = (await self._get(f"{self._apis['sms']}/requests"))["callbacks"]["pending"]
        return found

    async def behave(self, channel: str, behaviour: dict[str, Any]) -> None:
        """Tell a stand-in how to behave; {}: well. Raises SinkError."""
        url = f"{self._apis[channel]}/behaviour"
        try:
            async with self._session.put(url, json=behaviour, timeout=_TIMEOUT) as answer:
                if answer.status != 200:  # noqa: PLR2004  # HTTP's OK
                    raise SinkError(f"{url} refuses: {(await answer.text())[:300]}")
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SinkError(f"{url} does not answer: {type(error).__name__}") from error

    async def _totals(self, channel: str) -> dict[str, int]:
        found: dict[str, int] = await self._get(f"{self._apis[channel]}/health")
        return found

    async def _read(self, channel: str) -> None:
        more = True
        while more:
            page = await self._get(
                f"{self._apis[channel]}/messages?after={self._after[channel]}&limit={_PAGE}"
            )
            for message in page["messages"]:
                self._note(channel, message)
                self._after[channel] = message["number"]
            more = page["next_after"] is not None

    def _note(self, channel: str, message: dict[str, Any]) -> None:
        if channel == "sms":
            self.sms.note(self._bodies.number_of_phone(message["to"]), message["created_at"])
        else:
            self.mails.note(self._bodies.number_of_address(message["rcpt_tos"][0]), message["received_at"])

    async def _get(self, url: str) -> Any:
        try:
            async with self._session.get(url, timeout=_TIMEOUT) as answer:
                answer.raise_for_status()
                return await answer.json()
        except (TimeoutError, aiohttp.ClientError) as error:
            raise SinkError(f"{url} does not answer: {type(error).__name__}") from error
