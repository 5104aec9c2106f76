"""The URLs that messages carry: where a provider reports, and where a recipient takes an address off."""

from pipeline.notifications.callbacks.seals import Seals
from pipeline.notifications.callbacks.unsubscribing import UnsubscribeTokens
from pipeline.settings import PublicSettings
from pipeline.storage.outbox import Channel, Claim
from pipeline.storage.recipients import recipient_key


class Links:
    """Makes them. None of them, while `public.base_url` is not set."""

    def __init__(self, settings: PublicSettings) -> None:
        self._base = settings.base_url.rstrip("/")
        secrets = (settings.secret, settings.secret_previous)
        self._seals = Seals(secrets)
        self._tokens = UnsubscribeTokens(secrets)
        # Twilio takes off the fragment: it says how a callback that failed is repeated, and is not signed.
        self._overrides = f"#{settings.twilio_overrides}" if settings.twilio_overrides else ""

    def status_callback(self, claim: Claim) -> str | None:
        """Return where Twilio is to report on a message. About 3 µs."""
        if not self._base:
            return None
        seal = self._seals.seal(claim.slot, claim.effect_id, claim.attempt)
        return f"{self._base}/twilio/status/{seal}{self._overrides}"

    def unsubscribe(self, address: str) -> str | None:
        """Return where the reader of a mail to an address takes that address off all mails. About 5 µs."""
        if not self._base:
            return None
        token = self._tokens.token(recipient_key(Channel.EMAIL, address).key)
        return f"{self._base}/unsubscribe/{token}"
