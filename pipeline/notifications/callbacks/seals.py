"""Which message a callback is about: a signed effect id in its URL."""

from collections.abc import Sequence
from struct import Struct
from typing import Final, NamedTuple
from uuid import UUID

from pipeline.notifications.callbacks.tokens import TokenSigner
from pipeline.sharding.slots import SLOT_COUNT

_VERSION: Final = 1
_ATTEMPT_MAX: Final = 255
_LAYOUT: Final = Struct(">BHB16s")  # version, slot, attempt, effect id


class Sealed(NamedTuple):
    """What a seal says: the message, where it lives, and which attempt to send it was given."""

    slot: int
    effect_id: UUID
    attempt: int


class Seals:
    """Makes and opens seals. The first secret makes them; `secrets` after it are still accepted.

    A callback then finds its message without a lookup by the provider's id, also when it comes before the
    provider's reply; and who cannot make a seal cannot ask about a message.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._signer = TokenSigner("postorder status callback", secrets, payload_bytes=_LAYOUT.size)

    def seal(self, slot: int, effect_id: UUID, attempt: int) -> str:
        """Return 48 characters that are safe in a URL."""
        return self._signer.sign(_LAYOUT.pack(_VERSION, slot, min(attempt, _ATTEMPT_MAX), effect_id.bytes))

    def open(self, seal: str) -> Sealed | None:
        """Return what a seal says, or None if it is not one of ours."""
        payload = self._signer.open(seal)
        if payload is None:
            return None
        version, slot, attempt, effect_id = _LAYOUT.unpack(payload)
        if version != _VERSION or slot >= SLOT_COUNT:
            return None
        return Sealed(slot, UUID(bytes=effect_id), attempt)
