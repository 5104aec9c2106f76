"""AUTH PLAIN (RFC 4954, RFC 4616) for the sink: one user name and one password."""

import hmac
from base64 import b64decode
from binascii import Error as Base64Error
from typing import Final

import msgspec

from stack.smtp.command import SmtpRefusal

CAPABILITY: Final = "AUTH PLAIN"


class Credentials(msgspec.Struct, frozen=True):
    """Who may send mail here."""

    user: str
    password: str

    def check(self, argument: bytes) -> None:
        """Raise SmtpRefusal unless the argument of AUTH is a PLAIN initial response that names them."""
        mechanism, _, response = argument.partition(b" ")
        if mechanism.upper() != b"PLAIN":
            raise SmtpRefusal(504, "5.5.4 Only AUTH PLAIN is known here")
        try:
            said = b64decode(response, validate=True)
        except (Base64Error, ValueError) as error:
            raise SmtpRefusal(501, "5.5.2 Not base64") from error
        if not hmac.compare_digest(said, f"\0{self.user}\0{self.password}".encode()):
            raise SmtpRefusal(535, "5.7.8 Authentication credentials invalid")
