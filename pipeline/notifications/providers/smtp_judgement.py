"""What replies of an SMTP server mean for a mail (RFC 5321 4.2, 4.3)."""

from collections.abc import Sequence

from pipeline.errors import (
    AccountRefusedError,
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    ThrottledError,
    TooLargeError,
)
from pipeline.notifications.mail.bounce_codes import is_mailbox_gone
from pipeline.notifications.providers.smtp_replies import Reply

OK, GO_AHEAD, CLOSING = 250, 354, 421
TEMPORARY, PERMANENT = 400, 500
_FORWARDING = 251
_FULL = 552  # at RCPT it is to be taken for 452 (RFC 5321 4.5.3.1.10): later; else: too large (RFC 1870)
_TOO_LARGE = ("5.2.3", "5.3.4")
# RFC 4954, 6: sign in first (530, also for want of STARTTLS: RFC 3207), a way too weak (534), wrong
# credentials (535), not without encryption (538).
_ACCOUNT = frozenset((530, 534, 535, 538))
_ACCOUNT_ENHANCED = ("5.7.8", "5.7.9", "5.7.11")

ENVELOPE = (("MAIL", {OK}), ("RCPT", {OK, _FORWARDING}), ("DATA", {GO_AHEAD}))


def envelope_problem(replies: Sequence[Reply]) -> ProviderError | None:
    """Return what the first bad one of the replies to MAIL, RCPT and DATA means, if there is one so far."""
    for (name, good), reply in zip(ENVELOPE, replies, strict=False):
        if reply.code >= TEMPORARY:
            return _sender_refusal(reply) if name == "MAIL" else refusal(reply, at_recipient=name == "RCPT")
        if reply.code not in good:
            return ThrottledError("bad_reply", f"{name}: {reply.status}")
    return None


def reset_problem(reply: Reply) -> ProviderError | None:
    """Return what a reply to RSET means, unless all is well."""
    return None if reply.code == OK else ThrottledError("bad_reply", f"RSET: {reply.status}")


def refusal(reply: Reply, *, at_recipient: bool) -> ProviderError:
    """Put a 4xx or 5xx into one of our classes. Its text is left out: it may quote the address."""
    if _is_too_large(reply, at_recipient=at_recipient):
        return TooLargeError(reply.status, "larger than the relay takes")
    if reply.code < PERMANENT or (at_recipient and reply.code == _FULL):
        return ThrottledError(reply.status, "the relay asks to try later")
    if reply.code in _ACCOUNT or reply.enhanced in _ACCOUNT_ENHANCED:
        return AccountRefusedError(reply.status, "the relay does not let us send")
    if at_recipient and is_mailbox_gone(reply.status):
        return RecipientRefusedError(reply.status, "no such mailbox")
    return RejectedError(reply.status, "refused")


def _is_too_large(reply: Reply, *, at_recipient: bool) -> bool:
    """Tell whether a refusal is about the mail's size. 552 by itself is, but for a recipient's mailbox."""
    if reply.enhanced in _TOO_LARGE:
        return True
    return reply.code == _FULL and not reply.enhanced and not at_recipient


def signing_in_refusal(code: int) -> ThrottledError:
    """Put a refusal of AUTH into one of our classes: it is about the account, whatever its code."""
    if code < PERMANENT:
        return ThrottledError(str(code), "the relay asks to sign in later")
    return AccountRefusedError(str(code), "the relay does not let us sign in")


def _sender_refusal(reply: Reply) -> ProviderError:
    """Judge a refusal of MAIL: it names the sender, which is every mail's, and of this mail only the size."""
    if reply.code < PERMANENT or _is_too_large(reply, at_recipient=False):
        return refusal(reply, at_recipient=False)
    return AccountRefusedError(reply.status, "the relay refuses the sender")
