"""Reports of SendGrid and Amazon SES: what they say, and of which mail."""

import json
from typing import Any

import pytest
from relay_reports import ADDRESS, DOMAIN, EFFECT, sendgrid_event, ses_report

from pipeline.errors import CallbackError
from pipeline.notifications.callbacks.relay_events import REPORTS_MAX, read_sendgrid, read_ses
from pipeline.notifications.mail.bounce_codes import is_mailbox_gone

DOMAINS = frozenset((DOMAIN,))


def sendgrid(*events: dict[str, Any]) -> list[tuple[str, str, bool]]:
    found = read_sendgrid(json.dumps(events).encode(), DOMAINS)
    assert all((one.effect_id, one.addresses) == (EFFECT, {ADDRESS}) for one in found)
    return [(one.action, one.status, is_mailbox_gone(one.status)) for one in found]


def ses(report: dict[str, Any]) -> list[tuple[str, str, bool]]:
    found = read_ses(json.dumps(report).encode(), DOMAINS)
    assert all((one.effect_id, one.addresses) == (EFFECT, {ADDRESS}) for one in found)
    return [(one.action, one.status, is_mailbox_gone(one.status)) for one in found]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, ("failed", "5.1.1", True)),
        ({"status": "5.0.0"}, ("failed", "5.0.0", True)),
        ({"status": None}, ("failed", "5.0.0", True)),
        ({"status": "550 5.7.1"}, ("failed", "5.7.1", False)),
        ({"status": "550"}, ("failed", "550", True)),
        ({"status": "5.2.2"}, ("failed", "5.2.2", False)),
        ({"status": "5.7.1"}, ("failed", "5.7.1", False)),
        ({"type": "blocked"}, ("failed", "4.0.0", False)),  # a soft one, whatever its status
        ({"type": "blocked", "status": "5.7.1"}, ("failed", "5.7.1", False)),
        ({"type": "blocked", "status": None}, ("failed", "4.0.0", False)),
        ({"event": "dropped", "type": "", "status": "5.0.0"}, ("failed", "4.0.0", False)),
        ({"event": "deferred", "type": "", "status": None}, ("delayed", "4.0.0", False)),
        ({"event": "delivered", "type": "", "status": None}, ("delivered", "2.0.0", False)),
    ],
)
def test_what_sendgrid_says(changes: dict[str, Any], says: tuple[str, str, bool]) -> None:
    assert sendgrid(sendgrid_event(**changes)) == [says]


@pytest.mark.parametrize(
    "changes",
    [
        {"event": "open"},
        {"event": "spamreport", "type": ""},
        {"smtp-id": ""},
        {"smtp-id": f"<{EFFECT.hex}@evil.example>"},
        {"smtp-id": f"<{EFFECT.hex}@{DOMAIN}><{EFFECT.hex}@{DOMAIN}>"},
        {"smtp-id": f"<{EFFECT.hex[:-1]}@{DOMAIN}>"},
    ],
)
def test_what_is_about_none_of_our_mails_says_nothing(changes: dict[str, Any]) -> None:
    assert sendgrid(sendgrid_event(**changes)) == []
    assert len(sendgrid(sendgrid_event(**changes), sendgrid_event())) == 1  # and keeps nothing from the rest


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (ses_report(), ("failed", "5.1.1", True)),
        (ses_report(status=None), ("failed", "5.0.0", True)),
        (ses_report(status="5.2.2"), ("failed", "5.2.2", False)),
        (ses_report("Transient"), ("failed", "4.0.0", False)),
        (ses_report("Transient", "4.4.7"), ("failed", "4.4.7", False)),
        (ses_report("Undetermined"), ("failed", "4.0.0", False)),
        (
            ses_report(headers=[], commonHeaders={"messageId": f"<{EFFECT.hex}@{DOMAIN}>"}),
            ("failed", "5.1.1", True),
        ),
        (
            {
                **ses_report(),
                "bounce": None,
                "deliveryDelay": {"delayedRecipients": [{"emailAddress": ADDRESS}]},
            },
            ("delayed", "4.0.0", False),
        ),
        (
            {**ses_report(), "bounce": None, "delivery": {"recipients": [ADDRESS]}},
            ("delivered", "2.0.0", False),
        ),
    ],
)
def test_what_ses_says(report: dict[str, Any], says: tuple[str, str, bool]) -> None:
    assert ses(report) == [says]


@pytest.mark.parametrize(
    "report",
    [
        {},
        ses_report(headers=[]),  # it was not told to include them
        ses_report(headers=[{"name": "Message-ID", "value": f"<{EFFECT.hex}@evil.example>"}]),
        ses_report(commonHeaders={"messageId": f"<{'0' * 32}@{DOMAIN}>"}),  # two of ours: which one?
        {**ses_report(), "bounce": None, "complaint": {"complainedRecipients": [{"emailAddress": ADDRESS}]}},
    ],
)
def test_what_ses_says_of_no_mail_of_ours_says_nothing(report: dict[str, Any]) -> None:
    assert ses(report) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[1]",
        b"[[",
        b'[{"email":1}]',
        b"\xff",
        b"[" * 100_000,
        b'{"bounce":[]}',
        b'{"mail"',
        b"null",
    ],
)
@pytest.mark.parametrize("read", [read_sendgrid, read_ses])
def test_what_is_malformed_is_refused(read: Any, body: bytes) -> None:
    if read is read_ses and (body == b"{}" or not body.startswith(b"{")):
        assert read(body, DOMAINS) == ()
        return
    with pytest.raises(CallbackError):
        read(body, DOMAINS)


def test_more_events_than_are_taken_are_refused() -> None:
    with pytest.raises(CallbackError):
        sendgrid(*[{}] * (REPORTS_MAX + 1))
