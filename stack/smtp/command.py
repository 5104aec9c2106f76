"""Reading SMTP commands: verbs, paths and the parameters of MAIL."""

import re
from typing import Final

import msgspec

COMMAND_BYTES_MAX: Final = 2048  # RFC 5321 asks for 512 and more per extension
PATH_CHARS_MAX: Final = 256

_PATH: Final = re.compile(
    r"""(FROM|TO):[ ]?
        <((?:"(?:[^"\\\x00-\x1f\x7f]|\\[ -~])*"|[^<>"\s\x00-\x1f\x7f])*)>
        ((?:[ ]+[^ ]+)*)[ ]*""",
    re.IGNORECASE | re.VERBOSE,
)


class SmtpRefusal(Exception):  # noqa: N818 - a refusal is an answer, not an error of this program
    """The command gets this reply."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


class Path(msgspec.Struct, frozen=True):
    """The argument of MAIL or RCPT: an address and parameters by upper-case name."""

    address: str
    parameters: dict[str, str]


def read_path(verb: str, argument: bytes) -> Path:
    """Return the argument of `verb`; raises `SmtpRefusal` with a 5xx."""
    try:
        text = argument.decode()
    except UnicodeDecodeError as error:
        raise SmtpRefusal(553, "5.6.7 Address is not UTF-8") from error
    found = _PATH.fullmatch(text)
    if found is None or found[1].upper() != {"MAIL": "FROM", "RCPT": "TO"}[verb]:
        raise SmtpRefusal(501, "5.5.4 Syntax error in the path")
    address = found[2]
    if len(address) > PATH_CHARS_MAX:
        raise SmtpRefusal(501, "5.1.7 Path too long")
    if not _is_address(verb, address):
        raise SmtpRefusal(501, "5.1.3 Bad address syntax")
    parameters = dict(word.upper().partition("=")[::2] for word in found[3].split())
    return Path(address, parameters)


def _is_address(verb: str, address: str) -> bool:
    if verb == "MAIL" and not address:
        return True  # the null sender of bounces
    if verb == "RCPT" and address.lower() == "postmaster":
        return True
    local, at, domain = address.rpartition("@")
    return bool(local and at and domain)


def check_mail_parameters(path: Path, size_max: int) -> bool:
    """Raise `SmtpRefusal` for a MAIL that cannot be served; return whether it asks for SMTPUTF8."""
    unknown = path.parameters.keys() - {"SIZE", "BODY", "SMTPUTF8"}
    if unknown:
        raise SmtpRefusal(555, f"5.5.4 Parameter {min(unknown)[:40]} is not supported")
    size = path.parameters.get("SIZE", "0")
    if not (size.isascii() and size.isdigit() and len(size) <= 20):  # noqa: PLR2004 - RFC 1870
        raise SmtpRefusal(501, "5.5.4 SIZE is not a number")
    if int(size) > size_max:
        raise SmtpRefusal(552, "5.3.4 Message size exceeds the limit")
    if path.parameters.get("BODY", "7BIT") not in {"7BIT", "8BITMIME"}:
        raise SmtpRefusal(501, "5.5.4 BODY is 7BIT or 8BITMIME")
    smtputf8 = "SMTPUTF8" in path.parameters
    if not (smtputf8 or path.address.isascii()):
        raise SmtpRefusal(553, "5.6.7 Address needs SMTPUTF8")
    return smtputf8


def unstuffed(content: bytes) -> bytes:
    """Return the text of a mail without the dots that transparency added."""
    if content.startswith(b"."):
        content = content[1:]
    return content.replace(b"\r\n.", b"\r\n") if b"\r\n." in content else content
