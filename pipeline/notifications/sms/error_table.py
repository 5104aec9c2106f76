"""What Twilio's error codes mean for us: the table of twilio_errors.toml, and refusals made of it."""

from collections.abc import Iterable
from enum import StrEnum
from importlib.resources import files
from typing import Final, Self

import msgspec

from pipeline.errors import (
    AccountRefusedError,
    OutcomeUnknownError,
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    SettingsError,
    ThrottledError,
)

FILE_NAME: Final = "twilio_errors.toml"
_BAD_REQUEST, _SERVER_ERROR = 400, 500
_FOREIGN_RETRY_S = 60.0


class ErrorClass(StrEnum):
    """What to make of an error; the file's head says what each means."""

    RETRY = "retry"
    TERMINAL = "terminal"
    RECIPIENT = "recipient"
    OPTED_OUT = "opted_out"
    ACCOUNT = "account"
    UNKNOWN = "unknown"


class Meaning(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename={"kind": "class"}
):
    """One entry. `retry_after_s`: when the reply itself does not say. `status` is for codes-less replies."""

    kind: ErrorClass
    meaning: str
    code: int | None = None
    status: int | None = None
    retry_after_s: float | None = None
    asynchronous: bool = False


class _File(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    status: list[Meaning]
    error: list[Meaning]


class ErrorTable:
    """Meanings by code and by HTTP status."""

    def __init__(self, codes: Iterable[Meaning], statuses: Iterable[Meaning]) -> None:
        self._codes = {entry.code: entry for entry in codes}
        self._statuses = {entry.status: entry for entry in statuses}

    def __len__(self) -> int:
        return len(self._codes)

    @classmethod
    def load(cls, text: str | None = None) -> Self:
        """Read the table shipped (or another's text). Raises SettingsError with a line for each problem."""
        text = files(__package__).joinpath(FILE_NAME).read_text(encoding="utf-8") if text is None else text
        try:
            read = msgspec.toml.decode(text, type=_File)
        except msgspec.DecodeError as error:
            raise SettingsError([f"{FILE_NAME}: {error}"]) from error
        if problems := [*_problems(read.error, "code"), *_problems(read.status, "status")]:
            raise SettingsError(problems)
        return cls(read.error, read.status)

    def meaning(self, code: int | None) -> Meaning | None:
        """Return what a code means, or None if it is not in the table."""
        return self._codes.get(code)

    def refusal(self, status: int, code: int | None, retry_after_s: float | None = None) -> ProviderError:
        """Return the error for a reply of any status but 2xx.

        `code`: Twilio's own, None when the reply holds none. `retry_after_s`: what the reply asks for.
        Texts of the reply are left out: they may quote the number.
        """
        name = str(code or status)
        if not _BAD_REQUEST <= status < _SERVER_ERROR:
            return OutcomeUnknownError(name, f"HTTP {status}: may have been accepted")
        found = self._codes.get(code) if code is not None else None
        found = found or self._statuses.get(status)
        if code is None and (found is None or found.kind is ErrorClass.TERMINAL):
            # Not the API's own words: a proxy's, perhaps. The message may be fine.
            return ThrottledError(name, "refused, but not by the API", retry_after_s or _FOREIGN_RETRY_S)
        if found is None:
            return RejectedError(name, "refused, with a code that is not in the table")
        return _error(found, name, retry_after_s)


def _error(found: Meaning, name: str, asked_s: float | None) -> ProviderError:
    after_s = found.retry_after_s if asked_s is None else asked_s
    match found.kind:
        case ErrorClass.RETRY:
            return ThrottledError(name, found.meaning, after_s)
        case ErrorClass.ACCOUNT:
            return AccountRefusedError(name, found.meaning, after_s)
        case ErrorClass.RECIPIENT | ErrorClass.OPTED_OUT:
            return RecipientRefusedError(name, found.meaning)
        case ErrorClass.UNKNOWN:
            return OutcomeUnknownError(name, found.meaning)
    return RejectedError(name, found.meaning)


def _problems(entries: list[Meaning], key: str) -> list[str]:
    problems = []
    seen = set()
    for entry in entries:
        number = getattr(entry, key)
        where = f"{FILE_NAME}: {key} {number}"
        if number is None or (entry.code is None) == (entry.status is None):
            problems.append(f"{where}: needs `{key}`, and not the other of code and status")
        if number in seen:
            problems.append(f"{where}: is there twice")
        seen.add(number)
        if not entry.meaning.strip():
            problems.append(f"{where}: `meaning` is empty")
        waits = entry.kind in {ErrorClass.RETRY, ErrorClass.ACCOUNT}
        if entry.retry_after_s is not None and (not waits or not 0 < entry.retry_after_s <= 3600):  # noqa: PLR2004
            problems.append(f"{where}: `retry_after_s` is for retry and account, above 0 and at most an hour")
    return problems
