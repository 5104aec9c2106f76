"""Reports as SendGrid and Amazon SNS send them, signed with keys of the tests."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

EFFECT = UUID("9e107d9d-372b-4b6e-8b5e-3f0d0c1a2b02")
DOMAIN = "shop.example"
ADDRESS = "ada@example.com"
TOPIC = "arn:aws:sns:eu-central-1:123456789012:bounces"
CERTIFICATE = "https://sns.eu-central-1.amazonaws.com/SimpleNotificationService-" + "0a" * 16 + ".pem"
CONFIRM = "https://sns.eu-central-1.amazonaws.com/?Action=ConfirmSubscription&Token=2336"

SENDGRID_KEY, SNS_KEY = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)


def sendgrid_key() -> str:
    """Return the verification key as SendGrid shows it."""
    der = SENDGRID_KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(der).decode()


def sendgrid_event(**changes: Any) -> dict[str, Any]:
    """Return a bounce of our mail."""
    event = {
        "event": "bounce",
        "type": "bounce",
        "email": ADDRESS,
        "status": "5.1.1",
        "timestamp": 1700000000,
    }
    return {**event, "smtp-id": f"<{EFFECT.hex}@{DOMAIN}>", "reason": "550 5.1.1 no such user", **changes}


def sendgrid_headers(body: bytes, at: datetime | None = None) -> dict[str, str]:
    """Return the headers that SendGrid signs a body with."""
    timestamp = str(int((at or datetime.now(UTC)).timestamp()))
    signature = SENDGRID_KEY.sign(timestamp.encode() + body, ec.ECDSA(SHA256()))
    return {
        "Content-Type": "application/json",
        "X-Twilio-Email-Event-Webhook-Timestamp": timestamp,
        "X-Twilio-Email-Event-Webhook-Signature": base64.b64encode(signature).decode(),
    }


def ses_report(kind: str = "Permanent", status: str | None = "5.1.1", **mail: Any) -> dict[str, Any]:
    """Return a bounce of our mail as SES reports it."""
    named = {"headers": [{"name": "Message-ID", "value": f"<{EFFECT.hex}@{DOMAIN}>"}], **mail}
    recipient = {"emailAddress": "Ada@Example.com", "action": "failed", "status": status}
    bounce = {"bounceType": kind, "bounceSubType": "General", "bouncedRecipients": [recipient]}
    return {"notificationType": "Bounce", "bounce": bounce, "mail": {"messageId": "0100018", **named}}


def sns_message(message: str, at: datetime | None = None, **changes: Any) -> dict[str, Any]:
    """Return a message of SNS, signed. `changes` are signed too, `after` is changed afterwards."""
    after = changes.pop("after", {})
    fields = {
        "Type": "Notification",
        "MessageId": "22b80b92-fdea-4c2c-8f9d-bdfb0c7bf324",
        "TopicArn": TOPIC,
        "Message": message,
        "Timestamp": (at or datetime.now(UTC)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")[:-4] + "Z",
        "SignatureVersion": "2",
        "SigningCertURL": CERTIFICATE,
        "UnsubscribeURL": "https://sns.eu-central-1.amazonaws.com/?Action=Unsubscribe",
        **changes,
    }
    kinds = {"Notification": ("Message", "MessageId", "Subject", "Timestamp", "TopicArn", "Type")}
    asking = ("Message", "MessageId", "SubscribeURL", "Timestamp", "Token", "TopicArn", "Type")
    names = [name for name in kinds.get(fields["Type"], asking) if name in fields]
    signed = "".join(f"{name}\n{fields[name]}\n" for name in names)
    signature = SNS_KEY.sign(signed.encode(), padding.PKCS1v15(), SHA256())
    return {**fields, "Signature": base64.b64encode(signature).decode(), **after}


def sns_body(**fields: Any) -> bytes:
    """Return a message of SNS about our mail, as it is posted."""
    return json.dumps(sns_message(json.dumps(ses_report()), **fields)).encode()


def certificate() -> bytes:
    """Return what is at CERTIFICATE."""
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "sns.amazonaws.com")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(name, name, SNS_KEY.public_key(), 1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .sign(SNS_KEY, SHA256())
    )
    return made.public_bytes(Encoding.PEM)
