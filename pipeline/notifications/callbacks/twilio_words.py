"""What Twilio's requests say, read from their form fields. Source: twilio.com/docs/messaging/guides."""

import re
import unicodedata
from enum import StrEnum
from typing import Final

import msgspec

from pipeline.errors import CallbackError
from pipeline.notifications.callbacks.forms import Fields
from pipeline.settings import PublicSettings

_WORD_CHARS_MAX: Final = 200
_SID: Final = re.compile(r"(?:SM|MM)[0-9a-fA-F]{32}")
_STATUS: Final = re.compile(r"[a-z_-]{1,40}")
_ERROR_CODE: Final = re.compile(r"[0-9]{1,6}")
_E164: Final = re.compile(r"\+[1-9][0-9]{6,14}")


class Wish(StrEnum):
    """What a text from a handset asks for."""

    STOP = "stop"
    START = "start"
    HELP = "help"
    NOTHING = "nothing"


class StatusFields(msgspec.Struct, frozen=True):
    """A status callback. `to`: the recipient in E.164, None where it is no phone number."""

    sid: str
    status: str
    error_code: str | None
    account_sid: str
    to: str | None


class InboundFields(msgspec.Struct, frozen=True):
    """A text from a handset. `sender`: in E.164, None for short codes and names."""

    sid: str
    account_sid: str
    sender: str | None
    wish: Wish


def read_status(fields: Fields) -> StatusFields:
    """Return what a status callback says. Raises CallbackError."""
    sid = _one_of(fields, "MessageSid", "SmsSid")
    status = _one_of(fields, "MessageStatus", "SmsStatus").strip().lower()
    code = _optional(fields, "ErrorCode")
    if not _SID.fullmatch(sid):
        raise CallbackError("MessageSid is not of its form")
    if not _STATUS.fullmatch(status):
        raise CallbackError("MessageStatus is not of its form")
    if code and not _ERROR_CODE.fullmatch(code):
        raise CallbackError("ErrorCode is no number")
    to = _optional(fields, "To")
    return StatusFields(
        sid,
        status,
        code if code and code.strip("0") else None,
        _optional(fields, "AccountSid"),
        to if _E164.fullmatch(to) else None,
    )


class InboundReader:
    """Reads texts from handsets by the words of the settings."""

    def __init__(self, settings: PublicSettings) -> None:
        words = {
            Wish.HELP: settings.help_words,
            Wish.START: settings.start_words,
            Wish.STOP: settings.stop_words,  # the last one counts, should a word stand in two lists
        }
        self._wishes = {normal_word(word): wish for wish, listed in words.items() for word in listed}

    def read(self, fields: Fields) -> InboundFields:
        """Return what a text asks for. Raises CallbackError."""
        sid = _one_of(fields, "MessageSid", "SmsSid")
        if not _SID.fullmatch(sid):
            raise CallbackError("MessageSid is not of its form")
        sender = _optional(fields, "From")
        return InboundFields(
            sid,
            _optional(fields, "AccountSid"),
            sender if _E164.fullmatch(sender) else None,
            self._wish(_optional(fields, "OptOutType"), _optional(fields, "Body")),
        )

    def _wish(self, opt_out_type: str, body: str) -> Wish:
        # Twilio names the wish itself when it has already acted on it (Advanced Opt-Out).
        named = opt_out_type.strip().lower()
        if named in (Wish.STOP, Wish.START, Wish.HELP):
            return Wish(named)
        return self._wishes.get(normal_word(body), Wish.NOTHING)


def normal_word(text: str) -> str:
    """Return a text as it is compared: compatibility forms, case and what stands around do not matter."""
    characters = list(unicodedata.normalize("NFKC", text[:_WORD_CHARS_MAX]))
    inside = [place for place, character in enumerate(characters) if not _is_around(character)]
    if not inside:
        return ""
    word = characters[inside[0] : inside[-1] + 1]
    return "".join(c for c in word if unicodedata.category(c) != "Cf").casefold()


def _is_around(character: str) -> bool:
    """Tell whether a character changes nothing beside a word: punctuation, white space, controls."""
    return unicodedata.category(character)[0] in "PZC"


def _one_of(fields: Fields, name: str, alias: str) -> str:
    value = _optional(fields, name) or _optional(fields, alias)
    if not value:
        raise CallbackError(f"{name} is missing")
    return value


def _optional(fields: Fields, name: str) -> str:
    values = [value for key, value in fields if key == name]
    if len(values) > 1:
        raise CallbackError(f"{name} is given twice")
    return values[0] if values else ""
