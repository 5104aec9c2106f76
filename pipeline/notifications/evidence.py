"""What all providers of a channel together know of a message."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime
from typing import Protocol, TypeVar

from pipeline.errors import PostorderError, ProviderError
from pipeline.notifications.provider import CannotTell, Evidence, Found, NotFound
from pipeline.storage.outbox import Claim

Message = TypeVar("Message")
Message_contra = TypeVar("Message_contra", contravariant=True)

Ask = Callable[[Claim, datetime], Awaitable[Evidence]]
"""Asks about a message that was tried at a time or later. Raises no PostorderError."""


class Finder(Protocol[Message_contra]):
    """A provider that can be asked, or says that it cannot be."""

    async def find(self, message: Message_contra, since: datetime, /) -> Evidence:
        """Ask. See SmsProvider and EmailProvider."""


def asker(
    compose: Callable[[Claim], Awaitable[Message]],
    providers: Sequence[Finder[Message]],
    check_unchanged: Callable[[Claim, datetime], Awaitable[None]],
) -> Ask:
    """Return a function that composes a claim's message again, just as it was, and asks every provider.

    `check_unchanged` raises a PostorderError when it cannot be composed as it was.
    """

    async def ask(claim: Claim, since: datetime) -> Evidence:
        try:
            message = await compose(claim)
            await check_unchanged(claim, since)  # last, so that nothing changes in between
        except PostorderError as error:  # so it cannot be told apart from other messages
            code = error.code if isinstance(error, ProviderError) else type(error).__name__
            return CannotTell(f"not_composed:{code}", is_final=not error.retryable)
        return together(await asyncio.gather(*(one.find(message, since) for one in providers)))

    return ask


def together(answers: Sequence[Evidence]) -> Evidence:
    """Return what answers say together.

    One that has the message is enough; that nobody has it only all of them can say.
    """
    found = [one for one in answers if isinstance(one, Found)]
    if found:
        return found[0]
    silent = [one for one in answers if isinstance(one, CannotTell)]
    if not answers:
        return CannotTell("nobody_to_ask", is_final=True)
    if silent:
        waiting = [one for one in silent if not one.is_final]
        return (waiting or silent)[0]
    return NotFound()
