"""Form bodies, as providers and mail programs post them."""

from collections.abc import Sequence
from typing import Final
from urllib.parse import parse_qsl

from pipeline.errors import CallbackError

_FIELDS_MAX: Final = 200

Fields = Sequence[tuple[str, str]]


def parse_form(body: bytes) -> Fields:
    """Return the fields of an `application/x-www-form-urlencoded` body. Raises CallbackError."""
    try:
        return parse_qsl(
            body.decode("utf-8"),
            keep_blank_values=True,
            strict_parsing=bool(body),
            errors="strict",
            max_num_fields=_FIELDS_MAX,
        )
    except ValueError as error:  # UnicodeDecodeError is one
        raise CallbackError("the body is no form in UTF-8, or has too many fields") from error
