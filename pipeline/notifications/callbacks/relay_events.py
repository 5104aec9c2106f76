"""What relays report as JSON, SendGrid and Amazon SES, read into the bounces that mails of servers yield.

Each says of a mail, named by our Message-ID, what became of it for an address. What is no such report, or of
nobody's mail, yields nothing. Sources: SendGrid's Event Webhook Reference, SES's Contents of notifications.
"""

import re
from collections.abc import Iterable, Iterator
from typing import Any, Final
from uuid import UUID

import msgspec

from pipeline.errors import CallbackError
from pipeline.notifications.mail.bounce_codes import is_mailbox_gone
from pipeline.notifications.mail.bounces import Bounce

REPORTS_MAX: Final = 5000
_RECIPIENTS_MAX: Final = 50  # SES takes no more for a mail
_STATUS: Final = re.compile(r"(?:[245]\d\d[ -])?([245]\.\d{1,3}\.\d{1,3})|([45]\d\d)", re.ASCII)
_MESSAGE_ID: Final = re.compile(r"<?([0-9a-f]{32})@([a-z0-9.-]{1,253})>?", re.IGNORECASE | re.ASCII)
_UNKNOWN_STATUS: Final = {"failed": "5.0.0", "delayed": "4.0.0", "delivered": "2.0.0"}
_SOFT_STATUS: Final = "4.0.0"


class SendGridEvent(msgspec.Struct, frozen=True):
    """One of an event webhook's list. `type` is of bounces: `bounce`, or `blocked`, which passes."""

    event: str = ""
    email: str = ""
    smtp_id: str = msgspec.field(default="", name="smtp-id")
    type: str = ""
    status: str | None = None


class SesRecipient(msgspec.Struct, frozen=True, rename="camel"):
    """Whom a report of SES is about."""

    email_address: str
    status: str | None = None


class SesHeader(msgspec.Struct, frozen=True):
    """A header of the mail as it was handed to SES, which gives it a Message-ID of its own."""

    name: str = ""
    value: str = ""


class SesCommonHeaders(msgspec.Struct, frozen=True, rename="camel"):
    """Headers that SES names by itself."""

    message_id: str = ""


class SesMail(msgspec.Struct, frozen=True, rename="camel"):
    """The mail of a report. Its headers are there if the identity or the configuration set is told so."""

    headers: list[SesHeader] = []
    common_headers: SesCommonHeaders = SesCommonHeaders()


class SesBounce(msgspec.Struct, frozen=True, rename="camel"):
    """`bounce_type`: Permanent, Transient or Undetermined."""

    bounce_type: str = ""
    bounced_recipients: list[SesRecipient] = []


class SesDelay(msgspec.Struct, frozen=True, rename="camel"):
    """A delivery that takes longer."""

    delayed_recipients: list[SesRecipient] = []


class SesDelivery(msgspec.Struct, frozen=True):
    """A delivery. `recipients`: addresses."""

    recipients: list[str] = []


class SesReport(msgspec.Struct, frozen=True, rename="camel"):
    """A notification (`notificationType`) or an event of a configuration set (`eventType`)."""

    mail: SesMail = SesMail()
    bounce: SesBounce | None = None
    delivery: SesDelivery | None = None
    delivery_delay: SesDelay | None = None


_decode_sendgrid = msgspec.json.Decoder(list[SendGridEvent]).decode
_decode_ses = msgspec.json.Decoder(SesReport).decode

# A SendGrid event and its type: what became of the mail, and whether that says anything of the mailbox.
# `dropped`: it was never tried, for SendGrid had a reason of its own.
_SENDGRID: Final[dict[tuple[str, str], tuple[str, bool]]] = {
    ("bounce", "bounce"): ("failed", True),
    ("bounce", ""): ("failed", True),
    ("bounce", "blocked"): ("failed", False),
    ("blocked", "blocked"): ("failed", False),
    ("dropped", ""): ("failed", False),
    ("deferred", ""): ("delayed", False),
    ("delivered", ""): ("delivered", False),
}


def read_sendgrid(body: bytes, domains: frozenset[str]) -> tuple[Bounce, ...]:
    """Return what a list of events says of mails with Message-IDs of our domains. Raises CallbackError."""
    events: list[SendGridEvent] = _decoded(_decode_sendgrid, body)
    if len(events) > REPORTS_MAX:
        raise CallbackError("more events at once than are taken")
    found = []
    for event in events:
        meant = _SENDGRID.get((event.event, event.type))
        effect_id = _effect_id(event.smtp_id, domains)
        if meant is not None and effect_id is not None:
            action, is_hard = meant
            found.append(_bounce(effect_id, [event.email], action, event.status, is_hard=is_hard))
    return tuple(found)


def read_ses(message: bytes, domains: frozenset[str]) -> tuple[Bounce, ...]:
    """Return what a notification of SES says of a mail with a Message-ID of ours. Raises CallbackError.

    SES greets a topic with a line of text, which says nothing.
    """
    if not message.lstrip().startswith(b"{"):
        return ()
    report: SesReport = _decoded(_decode_ses, message)
    named = [header.value for header in report.mail.headers if header.name.lower() == "message-id"]
    ids = {_effect_id(one, domains) for one in (*named, report.mail.common_headers.message_id)} - {None}
    if len(ids) != 1:
        return ()
    [effect_id] = ids
    assert effect_id is not None
    return tuple(
        _bounce(effect_id, [address], action, status, is_hard=is_hard)
        for address, action, status, is_hard in list(_ses_words(report))[:_RECIPIENTS_MAX]
    )


def _ses_words(report: SesReport) -> Iterator[tuple[str, str, str | None, bool]]:
    if report.bounce is not None:
        is_hard = report.bounce.bounce_type == "Permanent"
        for one in report.bounce.bounced_recipients:
            yield one.email_address, "failed", one.status, is_hard
    if report.delivery_delay is not None:
        for one in report.delivery_delay.delayed_recipients:
            yield one.email_address, "delayed", one.status, False
    if report.delivery is not None:
        for address in report.delivery.recipients:
            yield address, "delivered", None, False


def _bounce(
    effect_id: UUID, addresses: Iterable[str], action: str, given: str | None, *, is_hard: bool
) -> Bounce:
    """Return a report. One that passes never says that the mailbox is gone, whatever status it came with."""
    match = _STATUS.match((given or "").strip())
    status = (match[1] or match[2]) if match else _UNKNOWN_STATUS[action]
    if not is_hard and is_mailbox_gone(status):
        status = _SOFT_STATUS
    return Bounce(effect_id, frozenset(address.strip().lower() for address in addresses), action, status)


def _effect_id(message_id: str, domains: frozenset[str]) -> UUID | None:
    match = _MESSAGE_ID.fullmatch(message_id.strip())
    return UUID(match[1]) if match and match[2].lower() in domains else None


def _decoded(decode: Any, body: bytes) -> Any:
    try:
        return decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CallbackError("the report is not of its form") from error
