"""Who has signed a report: SendGrid, Amazon's notification service for a topic of ours, or neither."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from relay_reports import (
    CERTIFICATE,
    CONFIRM,
    DOMAIN,
    EFFECT,
    TOPIC,
    certificate,
    sendgrid_headers,
    sendgrid_key,
    ses_report,
    sns_body,
    sns_message,
)

from pipeline.clock import SystemClock
from pipeline.errors import CallbackError, SettingsError
from pipeline.notifications.callbacks.relay_events import read_sendgrid, read_ses
from pipeline.notifications.callbacks.sendgrid_signature import SendGridSignatures
from pipeline.notifications.callbacks.sns import SnsTopics

DOMAINS = frozenset((DOMAIN,))

# SendGrid's own example, of its helper libraries.
KEY = (
    "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE83T4O/n84iotIvIW4mdBgQ/7dAfSmpqIM8kF9mN1flpVKS3GRqe62gw+2fNNRaINXvVp"
    "iglSI8eNEc6wEA3F+g=="
)
SIGNATURE = "MEUCIGHQVtGj+Y3LkG9fLcxf3qfI10QysgDWmMOVmxG0u6ZUAiEAyBiXDWzM+uOe5W0JuG+luQAbPIqHh89M15TluLtEZtM="
PAYLOAD = (
    b'[{"email":"hello@world.com","event":"dropped","reason":"Bounced Address",'
    b'"sg_event_id":"ZHJvcC0xMDk5NDkxOS1MUnpYbF9OSFN0T0doUTRrb2ZTbV9BLTA",'
    b'"sg_message_id":"LRzXl_NHStOGhQ4kofSm_A.filterdrecv-p3mdw1-756b745b58-kmzbl-18-5F5FC76C-9.0",'
    b'"smtp-id":"<LRzXl_NHStOGhQ4kofSm_A@ismtpd0039p1iad1.sendgrid.net>","timestamp":1600112492}]\r\n'
)


class At(SystemClock):
    def __init__(self, at: datetime) -> None:
        self._at = at

    def now(self) -> datetime:
        return self._at


# --- SendGrid's signatures ----------------------------------------------------------------------------------


def test_sendgrids_own_example_is_genuine_and_nothing_like_it() -> None:
    signed = {"timestamp": "1600112502", "signature": SIGNATURE, "body": PAYLOAD}
    then = At(datetime.fromtimestamp(1600112502, UTC))
    signatures = SendGridSignatures([KEY], then)
    assert signatures.is_genuine(**signed)
    assert SendGridSignatures([sendgrid_key(), KEY], then).is_genuine(**signed)
    assert read_sendgrid(PAYLOAD, DOMAINS) == ()
    for changes in (
        {"body": PAYLOAD[:-2]},
        {"body": PAYLOAD.replace(b"hello", b"hallo")},
        {"timestamp": "1600112503"},
        {"timestamp": " 1600112502"},
        {"timestamp": ""},
        {"signature": ""},
        {"signature": "not base64"},
        {"signature": SIGNATURE[:-8]},
        {"signature": "A" * 96},
        {"signature": "A" * 10**6},
    ):
        assert not signatures.is_genuine(**{**signed, **changes})
    assert not SendGridSignatures([sendgrid_key()], then).is_genuine(**signed)
    assert not SendGridSignatures([], then).is_genuine(**signed)


@pytest.mark.parametrize(("age", "is_genuine"), [(0, True), (25, True), (27, False), (-27, False)])
def test_a_signature_does_not_last_for_ever(age: int, *, is_genuine: bool) -> None:
    now = datetime(2026, 7, 1, tzinfo=UTC)
    headers = sendgrid_headers(b"[]", now - timedelta(hours=age))
    timestamp, signature = list(headers.values())[1:]
    found = SendGridSignatures([sendgrid_key()], At(now))
    assert found.is_genuine(timestamp=timestamp, signature=signature, body=b"[]") == is_genuine


@pytest.mark.parametrize("key", ["x", "", "AAAA", KEY[:-8]])
def test_what_is_no_key_of_sendgrids_is_named(key: str) -> None:
    with pytest.raises(SettingsError, match=r"public\.sendgrid_keys: not a verification key"):
        SendGridSignatures([key], SystemClock())


# --- Amazon's -----------------------------------------------------------------------------------------------


class Amazon:
    """What is at Amazon's URLs, and which were asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def fetch(self, url: str) -> bytes:
        self.asked.append(url)
        return certificate() if url == CERTIFICATE else b"<ConfirmSubscriptionResponse/>"


@pytest.fixture
def amazon() -> Amazon:
    return Amazon()


@pytest.fixture
def topics(amazon: Amazon) -> SnsTopics:

    return SnsTopics([TOPIC], amazon.fetch, SystemClock())


async def test_a_message_of_our_topic_is_genuine_and_the_certificate_is_asked_for_once(
    topics, amazon
) -> None:
    for body in (sns_body(), sns_body(Subject="Amazon SES Email Event Notification"), sns_body()):
        message = await topics.genuine(body)
        assert message is not None
        assert [one.effect_id for one in read_ses(message.message.encode(), DOMAINS)] == [EFFECT]
    assert amazon.asked == [CERTIFICATE]


EVIL = {
    "another topic": {"TopicArn": "arn:aws:sns:eu-central-1:999999999999:bounces"},
    "version 1": {"SignatureVersion": "1"},
    "another host": {"SigningCertURL": CERTIFICATE.replace("amazonaws.com", "amazonaws.com.evil.example")},
    "a host before": {"SigningCertURL": "https://sns.evil.example/?" + CERTIFICATE},
    "a user": {
        "SigningCertURL": CERTIFICATE.replace("https://", "https://sns.eu-central-1.amazonaws.com@evil/")
    },
    "another service": {"SigningCertURL": CERTIFICATE.replace("sns.", "s3.")},
    "no TLS": {"SigningCertURL": CERTIFICATE.replace("https", "http")},
    "a line break": {"SigningCertURL": CERTIFICATE + "\n"},
    "another path": {"SigningCertURL": CERTIFICATE.replace("/Simple", "/../Simple")},
    "no zone": {"Timestamp": "2026-07-01T00:00:00"},
}


@pytest.mark.parametrize("name", EVIL)
async def test_what_is_not_amazons_is_neither_believed_nor_asked_for(topics, amazon, name: str) -> None:
    assert await topics.genuine(sns_body(**EVIL[name])) is None
    assert amazon.asked == []


@pytest.mark.parametrize(
    "after",
    [
        {"Message": json.dumps(ses_report(status="5.1.2"))},
        {"Subject": "put in"},
        {"Type": "UnsubscribeConfirmation"},
        {"Signature": ""},
        {"Signature": "AAAA"},
        {"Signature": "no base64"},
    ],
)
async def test_what_was_changed_afterwards_is_not_genuine(topics, after: dict[str, str]) -> None:
    assert await topics.genuine(sns_body(after=after)) is None


@pytest.mark.parametrize("hours", [-27, 27])
async def test_a_message_of_another_time_is_not_taken(topics, hours: int) -> None:
    assert await topics.genuine(sns_body(at=datetime.now(UTC) - timedelta(hours=hours))) is None


@pytest.mark.parametrize("body", [b"", b"[]", b"{}", b"\xff", b'{"Type":"Else"}', b"[" * 100_000])
async def test_what_is_no_message_is_refused(topics, body: bytes) -> None:
    with pytest.raises(CallbackError):
        await topics.genuine(body)


@pytest.mark.parametrize(
    "url", [CONFIRM, "https://evil.example/?Token=1", CONFIRM.replace("https", "http"), None]
)
async def test_a_subscription_is_confirmed_at_amazons_only(topics, amazon, url: str | None) -> None:
    asked = sns_message("You have chosen to subscribe", Type="SubscriptionConfirmation", Token="2336")
    fields = {**asked, **({"SubscribeURL": url} if url else {})}
    changes = {
        name: value for name, value in fields.items() if name not in ("Signature", "Message", "Timestamp")
    }
    message = await topics.genuine(json.dumps(sns_message("You have chosen", **changes)).encode())
    assert message is not None
    if url == CONFIRM:
        await topics.confirm(message)
        assert amazon.asked == [CERTIFICATE, CONFIRM]
        return
    with pytest.raises(CallbackError):
        await topics.confirm(message)
    assert amazon.asked == [CERTIFICATE]
