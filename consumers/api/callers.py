"""Who asks, and what they may do."""

from enum import StrEnum

import msgspec


class Access(StrEnum):
    """What a token allows; each more than the one before.

    read: look, personal data cut short. operate: the same uncut, and what changes how things run. admin: also
    what cannot be taken back, and the record of who did what.
    """

    READ = "read"
    OPERATE = "operate"
    ADMIN = "admin"

    def covers(self, other: "Access") -> bool:
        """Tell whether this allows what the other does."""
        order = list(Access)
        return order.index(self) >= order.index(other)


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks. `expires_at`: when the token ends, in seconds since 1970."""

    subject: str
    access: Access
    expires_at: int
