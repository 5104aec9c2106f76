"""Signatures by DKIM, verified with keys from a made-up DNS."""

import base64
import subprocess

import dkim
import pytest
from mail_reading import NOW, claim, templates, writer
from nacl.signing import SigningKey

from pipeline.errors import SettingsError
from pipeline.notifications.mail.signature import signer_of
from pipeline.notifications.notification import Attachment
from pipeline.settings import EmailSettings


def rsa() -> tuple[str, bytes]:
    def openssl(*arguments: str, given: bytes = b"") -> bytes:
        return subprocess.run(["openssl", *arguments], input=given, check=True, capture_output=True).stdout

    key = openssl("genrsa", "-traditional", "2048")
    public = openssl("rsa", "-pubout", "-outform", "DER", given=key)
    return key.decode(), b"v=DKIM1; k=rsa; p=" + base64.b64encode(public)


def ed25519() -> tuple[str, bytes]:
    key = SigningKey(b"7" * 32)
    return base64.b64encode(b"7" * 32).decode(), b"v=DKIM1; k=ed25519; p=" + base64.b64encode(
        bytes(key.verify_key)
    )


KEYS = {"rsa": rsa(), "ed25519": ed25519()}


def settings(key: str) -> EmailSettings:
    return EmailSettings(dkim_domain="shop.example", dkim_selector="s1", dkim_key=key)


def signed(kind: str) -> bytes:
    sign = signer_of(settings(KEYS[kind][0]))
    assert sign is not None
    invoice = Attachment(filename="a.pdf", media_type="application/pdf", content=bytes(range(256)))
    order = claim(number="№ 日本-1001 ✓" * 6, customer_name="Ольга")
    mail = templates.email(order, "ada@example.com", (invoice,), "https://shop.example/u/1")
    return sign(writer.write(mail, NOW))


def is_good(mail: bytes, kind: str) -> bool:
    def look_up(name: bytes, timeout: int = 5) -> bytes:
        assert name == b"s1._domainkey.shop.example."
        return KEYS[kind][1]

    return dkim.verify(mail, dnsfunc=look_up)


@pytest.mark.parametrize("kind", KEYS)
def test_a_signature_is_good_until_anything_it_covers_changes(kind: str) -> None:
    mail = signed(kind)
    assert is_good(mail, kind)
    assert b"\n" not in mail.replace(b"\r\n", b"")
    for before, after in [
        (b"Hello", b"Hallo"),
        (b"To: ada@", b"To: bob@"),
        (b"List-Unsubscribe=One-Click", b"List-Unsubscribe=Two-Click"),
        (b"<https://shop.example/u/1>", b"<https://evil.example/u/1>"),
        (b"Message-ID: <0", b"Message-ID: <1"),
        (b"\r\nFrom: ", b"\r\nFrom: evil@example.com\r\nFrom: "),
    ]:
        assert before in mail
        assert not is_good(mail.replace(before, after, 1), kind)


def test_no_domain_no_signature() -> None:
    assert signer_of(EmailSettings()) is None


@pytest.mark.parametrize(
    "key", ["nonsense", "-----BEGIN RSA PRIVATE KEY-----\nAAAA\n-----END RSA PRIVATE KEY-----", "AAAA"]
)
def test_a_key_that_is_none_is_told_at_the_start_and_not_shown(key: str) -> None:
    with pytest.raises(SettingsError) as caught:
        signer_of(settings(key))
    assert str(caught.value).startswith("email.dkim_key: cannot be used")
    assert key not in str(caught.value)
