"""What Twilio tells us is acted on: status words go to the ledger, STOP and START to the recipients."""

from collections.abc import Awaitable, Callable, Mapping
from typing import Protocol

import structlog

from pipeline.clock import Clock
from pipeline.notifications.callbacks.forms import Fields
from pipeline.notifications.callbacks.replays import Replays
from pipeline.notifications.callbacks.seals import Sealed
from pipeline.notifications.callbacks.twilio_words import InboundReader, Wish, read_status
from pipeline.notifications.sms.error_table import ErrorClass, ErrorTable
from pipeline.storage.effects import ProviderStatus
from pipeline.storage.outbox import Channel
from pipeline.storage.standing import RecipientState, Said

log = structlog.get_logger(__name__)


class SetRecipient(Protocol):
    """Lets a number get messages again, or no more; returns whether that counts. Raises retryable errors."""

    async def __call__(self, channel: Channel, address: str, said: Said, /, *, report: str) -> bool:
        """Return when it is durable. `report`: names the request, so that it is acted on once."""


class StatusCallbacks:
    """Takes status callbacks. `accounts`: which provider slot each account of ours is."""

    def __init__(
        self,
        accounts: Mapping[str, str],
        apply: Callable[[ProviderStatus], Awaitable[None]],
        set_recipient: SetRecipient,
        errors: ErrorTable,
        clock: Clock,
    ) -> None:
        self._accounts = accounts
        self._errors = errors
        self._apply = apply
        self._set_recipient = set_recipient
        self._clock = clock

    async def take(self, sealed: Sealed, fields: Fields) -> None:
        """Take a callback; return when what it says is durable. Raises CallbackError and retryable errors."""
        said = read_status(fields)
        if said.to is not None and self._means_opted_out(said.error_code):
            refused = Said(RecipientState.OUT, f"provider:{said.error_code}")
            await self._set_recipient(Channel.SMS, said.to, refused, report=f"{said.sid} {said.error_code}")
        provider = self._accounts[said.account_sid]
        await self._apply(
            ProviderStatus(
                sealed.slot,
                sealed.effect_id,
                provider,
                said.sid,
                said.status,
                said.error_code,
                self._clock.now(),
            )
        )

    def _means_opted_out(self, code: str | None) -> bool:
        meaning = self._errors.meaning(int(code)) if code else None
        return meaning is not None and meaning.kind is ErrorClass.OPTED_OUT


class InboundTexts:
    """Takes texts from handsets.

    Twilio's signature has no time, so a text sent again would be a new wish: each is acted on once, in all
    processes. Those seen here are kept in mind, so that a repetition does not cost a transaction.
    """

    def __init__(self, reader: InboundReader, set_recipient: SetRecipient, clock: Clock) -> None:
        self._reader = reader
        self._set_recipient = set_recipient
        self._seen = Replays(clock)

    async def take(self, fields: Fields) -> Wish:
        """Take a text; return its wish when that is durable. Raises CallbackError and retryable errors."""
        text = self._reader.read(fields)
        if (
            text.sender is None
            or text.wish not in (Wish.STOP, Wish.START)
            or self._seen.find(text.sid) is not None
        ):
            return text.wish
        state = RecipientState.OUT if text.wish is Wish.STOP else RecipientState.IN
        await self._set_recipient(Channel.SMS, text.sender, Said(state, text.wish.value), report=text.sid)
        log.info("recipient.asked", message_sid=text.sid, wish=text.wish)
        self._seen.keep(text.sid)
        return text.wish
