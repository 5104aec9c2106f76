"""E-mail addresses as upstream has them, and which of them a mail may go to."""

from email_validator import EmailNotValidError, validate_email

from pipeline.errors import RecipientRefusedError


def email_address(raw: str | None) -> str:
    """Return an address whose domain is in ASCII. Nothing is looked up in DNS.

    Raises RecipientRefusedError with code `no_email` or `invalid_email`.
    """
    if not raw or not raw.strip():
        raise RecipientRefusedError("no_email", "the order has no e-mail address")
    try:
        valid = validate_email(raw.strip(), check_deliverability=False, strict=True)
    except EmailNotValidError as error:
        raise RecipientRefusedError("invalid_email", "not an e-mail address") from error
    if valid.ascii_email is None:
        raise RecipientRefusedError("invalid_email", "the local part is not ASCII")
    if "=?" in valid.ascii_email:
        # Allowed by the letter, but mail software would decode it as an encoded word.
        raise RecipientRefusedError("invalid_email", "the local part looks like an encoded word")
    return valid.ascii_email
