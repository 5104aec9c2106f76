"""A claim's SMS made ready for a provider: where it goes, a text that fits, how long it is of use."""

import time
from collections.abc import Callable
from math import isfinite
from typing import Final

import msgspec

from pipeline.notifications.notification import Sms
from pipeline.notifications.sms.phone import PhonePolicy
from pipeline.notifications.sms.text import TextShaper
from pipeline.settings import SmsSettings
from pipeline.storage.outbox import Claim

VALID_S_MAX: Final = 36_000  # of Twilio's ValidityPeriod; what is of use for longer waits no longer than that


class SmsComposition:
    """Makes SMS ready. `callback_url`: where the provider may tell what became of a claim's message."""

    def __init__(
        self,
        settings: SmsSettings,
        *,
        callback_url: Callable[[Claim], str | None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._phones = PhonePolicy(settings.number_types)
        self._texts = TextShaper(segments_max=settings.segments_max, plain_marks=settings.plain_marks)
        self._callback_url = callback_url
        self._monotonic = monotonic

    def recipient(self, claim: Claim) -> str:
        """Return the number in E.164. Raises RecipientRefusedError: see PhonePolicy."""
        return self._phones.judge(claim.phone, claim.country).e164

    def finish(self, claim: Claim, rendered: Sms) -> Sms:
        """Return a rendered message as it is to be sent. Raises RejectedError: see TextShaper."""
        return msgspec.structs.replace(
            rendered,
            body=self._texts.shape(rendered.body),
            valid_s=self._valid_s(claim.useful_until),
            callback_url=self._callback_url(claim),
            send_before=claim.send_before,
        )

    def _valid_s(self, useful_until: float) -> int | None:
        """Return how long the provider may hold the message in its queue; None: as long as it likes.

        It is not held beyond its use: a late "your order is on its way" is worse than none.
        """
        if not isfinite(useful_until):
            return None
        return max(1, min(VALID_S_MAX, int(useful_until - self._monotonic())))
