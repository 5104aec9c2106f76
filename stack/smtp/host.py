"""What the connections of one SMTP sink share: its settings, its mails, its conduct and its counters."""

import ssl
from collections import Counter, defaultdict
from typing import Final

import msgspec

from stack.smtp.authentication import Credentials
from stack.smtp.behaviour import SmtpBehaviour, SmtpConduct
from stack.smtp.mail_store import MailStore


class SmtpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Fixed when the sink starts."""

    hostname: str = "sink.localhost"
    mail_bytes_max: int = 32 * 1024 * 1024
    connections_max: int = 2000
    idle_s_max: float = 300.0
    credentials: Credentials | None = None
    """Whoever sends must name these; None: anybody may send."""


class SmtpHost:
    """Shared state. Only the event loop's thread touches it."""

    def __init__(self, settings: SmtpSettings, store: MailStore, tls: ssl.SSLContext | None = None) -> None:
        self.settings = settings
        self.store = store
        self.tls = tls
        self.conduct = SmtpConduct(SmtpBehaviour())
        self.connections_opened = 0
        self.connections_open = 0
        self.connections: Counter[str] = Counter()
        self.replies: defaultdict[str, Counter[str]] = defaultdict(Counter)

    def reset(self) -> None:
        """Forget mails and counters and behave well; connections stay open and keep their numbers."""
        self.store.clear()
        self.conduct = SmtpConduct(SmtpBehaviour())
        self.connections.clear()
        self.replies.clear()

    def count(self, stage: str, reply: str) -> None:
        """Count one reply: a code, or how it was withheld."""
        self.replies[stage][reply] += 1


CAPABILITIES: Final = ("PIPELINING", "8BITMIME", "SMTPUTF8", "ENHANCEDSTATUSCODES")
