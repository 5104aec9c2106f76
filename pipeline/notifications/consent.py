"""Whether a person wants a message."""

from pipeline.errors import RecipientRefusedError
from pipeline.storage.customers import Person
from pipeline.storage.outbox import Channel


def check_consent(person: Person, channel: Channel) -> None:
    """Raise RecipientRefusedError with code `opted_out` when the person wants nothing on this channel."""
    if channel in person.opted_out:
        raise RecipientRefusedError("opted_out", "the customer wants nothing on this channel")
