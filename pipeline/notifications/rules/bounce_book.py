"""Bounces taken in: the mail was not delivered, and an address that is gone gets nothing any more.

Anybody can write a mail that looks like a bounce. One counts only if it names a mail of the ledger and the
address that this mail went to.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Sequence
from uuid import UUID

import structlog

from pipeline.clock import Clock
from pipeline.errors import RecipientRefusedError, StorageUnavailableError
from pipeline.notifications.mail.address import email_address
from pipeline.notifications.mail.bounce_codes import is_mailbox_gone
from pipeline.notifications.mail.bounces import Bounce, read_bounces
from pipeline.notifications.rules.recipients import Recipients
from pipeline.settings import Settings
from pipeline.sharding.slots import SLOT_COUNT, slot_of_digest
from pipeline.storage.cluster import Cluster
from pipeline.storage.customers import read_persons
from pipeline.storage.effects import ProviderStatus
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import SentMail
from pipeline.storage.standing import RecipientState, Said

log = structlog.get_logger(__name__)

_ALL_SLOTS = range(SLOT_COUNT)
_ORDERS_MAIL = 2  # the last byte of its effect id; the first 15 tell the order's slot
_MOVING_S = 0.02
_TRIES = 50
_AT_ONCE = 16


def message_id_domains(settings: Settings) -> frozenset[str]:
    """Return the domains of our Message-IDs."""
    relays = [email for email in (settings.email, settings.email_second) if email is not None]
    return frozenset(email.from_address.rpartition("@")[2].lower() for email in relays)


class BounceBook:
    """Takes bounces in. `domains`: of our Message-IDs."""

    def __init__(
        self, cluster: Cluster, recipients: Recipients, *, domains: Iterable[str], clock: Clock
    ) -> None:
        self._cluster = cluster
        self._recipients = recipients
        self._domains = frozenset(domain.lower() for domain in domains)
        self._clock = clock

    async def take(self, raw: bytes) -> Counter[str]:
        """Take a mail in; return what became of what it says. Durable on return; again, it changes nothing.

        Outcomes: `no_bounce`, `no_such_mail`, `other_recipient`, those of Effects.apply_statuses, and
        `taken_off` for each address that gets nothing any more. Raises a retryable error when a shard is
        away.
        """
        return await self.take_reports(await asyncio.to_thread(read_bounces, raw, self._domains))

    async def take_reports(self, bounces: Sequence[Bounce]) -> Counter[str]:
        """Take what was reported of mails; see `take`. One that fails keeps none from the others."""
        outcomes: Counter[str] = Counter()
        failures = []
        for first in range(0, len(bounces), _AT_ONCE):
            some = bounces[first : first + _AT_ONCE]
            for found in await asyncio.gather(*map(self._take, some), return_exceptions=True):
                if isinstance(found, BaseException):
                    failures.append(found)
                else:
                    outcomes.update(found)
        if not bounces:
            outcomes["no_bounce"] += 1
        log.info("bounce.taken", **outcomes)
        if failures:
            raise failures[0]
        return outcomes

    async def _take(self, bounce: Bounce) -> Counter[str]:
        mail = await self._mail(bounce.effect_id)
        if mail is None:
            return Counter(("no_such_mail",))
        address = await self._address(mail)
        if address is None or address.lower() not in bounce.addresses:
            return Counter(("other_recipient",))
        outcomes = await self._apply(bounce, mail)
        if bounce.action == "failed" and is_mailbox_gone(bounce.status):
            # Read again, it says what it said then: what an operator has said of the address since counts.
            at = None if outcomes["applied"] else mail.status_at
            said = Said(RecipientState.OUT, f"bounce:{bounce.status}", at)
            report = f"bounce {bounce.effect_id.hex} {bounce.status}"
            outcomes["taken_off"] += await self._recipients.set(Channel.EMAIL, address, said, report=report)
        return outcomes

    async def _mail(self, effect_id: UUID) -> SentMail | None:
        """Find a mail. That there is none counts only if no slot has moved since the last map."""
        for _ in range(_TRIES):
            epoch = self._cluster.router.epoch
            if mail := await self._asked_for(effect_id):
                return mail
            await self._cluster.refresh()
            if self._cluster.router.epoch == epoch:
                return None
        raise StorageUnavailableError("slots move too fast to tell whether there is such a mail")

    async def _asked_for(self, effect_id: UUID) -> SentMail | None:
        """Ask where a mail may be. An order's is on one shard; for an invoice's all are asked."""
        is_orders = effect_id.bytes[-1] == _ORDERS_MAIL
        slots = [slot_of_digest(effect_id.bytes)] if is_orders else list(_ALL_SLOTS)
        shards = [self._cluster.router.shard_of(slots[0])] if is_orders else list(self._cluster.shards)
        for shard in shards:
            if mail := await self._cluster[shard].recipients.mail(slots, effect_id):
                return mail
        return None

    async def _address(self, mail: SentMail) -> str | None:
        """Return where a mail went, as it was written: the order's address, else the customer's of today."""
        raw = mail.email if mail.email and mail.email.strip() else await self._customers_address(mail)
        try:
            return email_address(raw)
        except RecipientRefusedError:
            return None

    async def _customers_address(self, mail: SentMail) -> str | None:
        if not mail.customer_id:
            return None
        for _ in range(_TRIES):
            place = self._cluster.router.place(mail.customer_id)
            found = await read_persons(self._cluster[place.shard].primary, [(place.slot, mail.customer_id)])
            if not found.not_owned:
                return found.persons[mail.customer_id].email
            await self._follow()
        raise StorageUnavailableError("no shard owns the customer's slot at the moment")

    async def _apply(self, bounce: Bounce, mail: SentMail) -> Counter[str]:
        status = ProviderStatus(
            mail.slot,
            bounce.effect_id,
            mail.provider or "smtp",
            None,
            bounce.action,
            bounce.status,
            self._clock.now(),
        )
        for _ in range(_TRIES):
            shard = self._cluster.router.shard_of(mail.slot)
            applied = await self._cluster[shard].effects.apply_statuses([status])
            if not applied.not_owned:
                return Counter(applied.outcomes)
            await self._follow()
        raise StorageUnavailableError("no shard owns the mail's slot at the moment")

    async def _follow(self) -> None:
        """Go by the newest map; a slot is nobody's for a moment while it moves."""
        await self._cluster.refresh()
        await self._clock.sleep(_MOVING_S)
