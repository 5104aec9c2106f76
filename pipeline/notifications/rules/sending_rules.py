"""The rules together: what a message passes before a provider is called, and what its receipt tells."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

import structlog

from pipeline.clock import Clock
from pipeline.errors import HeldBackError, LeaseEndedError, PostorderError, ProviderError
from pipeline.lifecycle import Tasks
from pipeline.notifications.mail.bounce_codes import is_mailbox_gone
from pipeline.notifications.notification import Email, Sms
from pipeline.notifications.rules.countries import Countries
from pipeline.notifications.rules.quiet_hours import QuietHours
from pipeline.notifications.rules.recipient_book import Passed, RecipientBook
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.rules.spending import Spending
from pipeline.notifications.sms.segments import measure
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.storage.outbox import Channel, Claim, Receipt, State
from pipeline.storage.recipients import recipient_key
from pipeline.storage.standing import RecipientState, Said

log = structlog.get_logger(__name__)

Message = Sms | Email

_OPTED_OUT_CODES = frozenset(("21610",))  # Twilio: the number has said STOP to the sender
_TAKEN = frozenset((State.ACCEPTED, State.DELIVERED, State.UNDELIVERED, State.UNKNOWN))
_SET_S = 5.0
_TAKING_OFF_MAX = 100
_WAITED_FOR_MAX = 8
_WAIT_S = 0.5


_ClaimKey = tuple[bytes, bytes]
"""Effect and claim: after a lease has ended the same message may be claimed again, and be under way twice."""


class _UnderWay(NamedTuple):
    message: Message
    passed: Passed


class SendingRules:
    """A service.

    Mutable state: `_under_way`, the messages that passed and have no receipt yet; `_taking_off`, how many
    words of providers are being recorded.

    What may be said without asking anybody comes first, and the count of the daily cap last.
    """

    name = "sending rules"

    def __init__(
        self,
        *,
        countries: Countries,
        quiet: QuietHours,
        spending: Spending,
        books: Mapping[Channel, RecipientBook],
        recipients: Recipients,
        metrics: RuleMetrics,
        clock: Clock,
        tasks: Tasks,
    ) -> None:
        self._countries = countries
        self._quiet = quiet
        self._spending = spending
        self._books = books
        self._recipients = recipients
        self._metrics = metrics
        self._clock = clock
        self._tasks = tasks
        self._taking_off = 0
        self._under_way: dict[_ClaimKey, _UnderWay] = {}

    def __repr__(self) -> str:
        return f"SendingRules({len(self._under_way)} under way; {self._spending!r})"

    async def check(self, claim: Claim, message: Message) -> None:
        """Return when a message may be sent now. `settled` must follow, whatever becomes of it then.

        `claim`: completed, so that it has the recipient's number and country. Raises RecipientRefusedError
        (`country`, `opted_out`, `bounced`, `blocked`), HeldBackError (`quiet_hours`, `daily_cap`, `spend_…`,
        `recipients_unavailable`), or LeaseEndedError for a message that expired since it was claimed: its
        next claim finds it so.
        """
        try:
            self._check_here(claim, message)
            passed = await self._books[claim.channel].admit(recipient_key(claim.channel, message.to))
        except ProviderError as error:
            self._metrics.ruled.labels(claim.channel, error.code).inc()
            raise
        self._under_way[_key(claim)] = _UnderWay(message, passed)
        if self._clock.monotonic() >= claim.useful_until:
            raise LeaseEndedError

    def _check_here(self, claim: Claim, message: Message) -> None:
        left_s = claim.useful_until - self._clock.monotonic()
        if left_s <= 0:
            raise LeaseEndedError
        if isinstance(message, Sms):
            self._countries.check(message.to)
            self._spending.check(message.to)
        number = message.to if isinstance(message, Sms) else claim.phone
        wait_s = self._quiet.wait_s(claim.kind, number, claim.country, self._clock.now())
        if wait_s > 0:
            raise HeldBackError("quiet_hours", "it is night where the recipient is", min(wait_s, left_s))

    async def settled(self, claim: Claim, receipt: Receipt) -> None:
        """Learn from a receipt, before it is recorded: what was sent, and who wants or gets nothing more.

        Waits for half a second at most, and raises nothing. Looks only at messages that passed.
        """
        under_way = self._under_way.pop(_key(claim), None)
        if under_way is None:
            return
        message, passed = under_way
        if receipt.state in _TAKEN:
            if isinstance(message, Sms):
                self._spending.add(message.to, measure(message.body).segments)
            return
        self._books[claim.channel].take_back(passed)
        if receipt.state is State.SUPPRESSED and (reason := _opt_out(claim.channel, receipt.reason or "")):
            await self._begin_to_take_off(claim.channel, message.to, reason)

    async def _begin_to_take_off(self, channel: Channel, address: str, reason: str) -> None:
        """Have it done, and done before the receipt unless that takes long.

        The recipient's shard may be away when the message's is not, and no worker must hang on it.
        """
        if self._taking_off >= _TAKING_OFF_MAX:
            log.warning("recipient.not_taken_off", channel=channel, reason=reason, error="too many at once")
            return
        self._taking_off += 1
        taking_off = self._tasks.start(self._take_off(channel, address, reason), "recipient taken off")
        if self._taking_off <= _WAITED_FOR_MAX:
            await asyncio.wait((taking_off,), timeout=_WAIT_S)

    async def _take_off(self, channel: Channel, address: str, reason: str) -> None:
        """Remember what a provider said of a recipient. If that fails, the next message finds out again."""
        try:
            async with asyncio.timeout(_SET_S):
                await self._recipients.set(channel, address, Said(RecipientState.OUT, reason))
        except (PostorderError, TimeoutError) as error:
            log.warning("recipient.not_taken_off", channel=channel, reason=reason, error=type(error).__name__)
        else:
            self._metrics.opt_outs.labels(channel, reason.partition(":")[0]).inc()
        finally:
            self._taking_off -= 1

    async def start(self) -> None:
        """Read what was spent."""
        await self._spending.start()

    async def drain(self) -> None:
        """Write what was spent and said, and count no more what was not sent; whoever sends has finished."""
        await self._spending.drain()
        for book in self._books.values():
            await book.drain()
        await self._tasks.join()

    async def stop(self) -> None:
        """End."""
        await self._spending.stop()
        for book in self._books.values():
            await book.stop()
        await self._tasks.cancel()


def _key(claim: Claim) -> _ClaimKey:
    return claim.effect_id.bytes, claim.claim_id.bytes


def _opt_out(channel: Channel, code: str) -> str | None:
    """Return why a recipient gets nothing more, by the code of a refusal; None: it is about this message.

    A relay that says 550 and no more may mean us ("relay not permitted" is Exim's), and says so of everybody.
    """
    if channel is Channel.SMS:
        return f"provider:{code}" if code in _OPTED_OUT_CODES else None
    return f"bounce:{code}" if "." in code and is_mailbox_gone(code) else None
