"""Signatures of mails by DKIM (RFC 6376, RFC 8463), with dkimpy."""

from collections.abc import Callable

from pipeline.errors import SettingsError
from pipeline.settings import EmailSettings

# Headers that are signed when they are there. A header named twice cannot be added to unseen.
_SIGNED = (
    b"from", b"from", b"to", b"subject", b"date", b"message-id", b"mime-version", b"content-type",
    b"list-unsubscribe", b"list-unsubscribe-post", b"auto-submitted",
)  # fmt: skip
_PEM = "-----BEGIN"


def signer_of(settings: EmailSettings) -> Callable[[bytes], bytes] | None:
    """Return a function that puts a signature before a mail, or None when none is asked for.

    What a signature costs by RSA and by Ed25519 is in docs/explanation/mail.md.
    Raises SettingsError when the key cannot be used or the extra `dkim` is not installed.
    """
    if not settings.dkim_domain:
        return None
    try:
        import dkim  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise SettingsError(
            ["email.dkim_domain: needs the extra `dkim`: pip install postorder[dkim]"]
        ) from error
    selector, domain = settings.dkim_selector.encode(), settings.dkim_domain.encode()
    key = settings.dkim_key.encode()
    algorithm = b"rsa-sha256" if settings.dkim_key.startswith(_PEM) else b"ed25519-sha256"

    def sign(mail: bytes) -> bytes:
        signature = dkim.DKIM(mail, linesep=b"\r\n").sign(
            selector,
            domain,
            key,
            signature_algorithm=algorithm,
            canonicalize=(b"relaxed", b"simple"),
            include_headers=_headers(mail),
        )
        return bytes(signature) + mail

    try:
        sign(b"From: a@b.example\r\n\r\n\r\n")
    except (dkim.DKIMException, ValueError, TypeError) as error:
        raise SettingsError([f"email.dkim_key: cannot be used: {type(error).__name__}"]) from error
    return sign


def _headers(mail: bytes) -> list[bytes]:
    head = mail.partition(b"\r\n\r\n")[0].lower()
    names = {line.partition(b":")[0] for line in head.split(b"\r\n") if line[:1].isalpha()}
    return [name for name in _SIGNED if name in names]
