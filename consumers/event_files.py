"""Events out of files: one JSON document, JSON lines, or an array; each with the line it begins at."""

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

from pipeline.errors import EventError
from pipeline.events import Reason, type_of
from pipeline.ingest.content_mode import STRUCTURED_TYPE
from pipeline.ingest.decoder import Decoder
from pipeline.ingest.delivery import Delivery, Properties

_BETWEEN = re.compile(r"[\s,]*")
_FIRST_TRY = 4096  # characters, and on to the end of the line: most events are shorter
_decoder = json.JSONDecoder()


class FoundEvent(NamedTuple):
    """An event of a file: where, its bytes, and the routing key; `problem` is empty when it is valid."""

    place: str
    body: bytes
    routing_key: str
    problem: str


def find_events(text: str, decoder: Decoder) -> Iterator[FoundEvent]:
    """Yield the events of a file's text in order, bad ones with their problem.

    After a document that is not JSON the search goes on at the next line, except within an array, where
    there is no telling where the next one begins.
    """
    at = _BETWEEN.match(text).end()  # type: ignore[union-attr]  # it matches nothing too
    in_array = text[at : at + 1] == "["
    at += in_array
    line, counted = 1, 0
    while (at := _BETWEEN.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # as above
        if in_array and text[at] == "]":
            return
        line += text.count("\n", counted, at)
        counted = at
        try:
            end = _end_of_document(text, at)
        except (ValueError, RecursionError) as error:
            yield FoundEvent(str(line), b"", "", f"{Reason.MALFORMED_JSON}: {_explained(error)}")
            if in_array:
                return
            newline = text.find("\n", at)
            at = len(text) if newline < 0 else newline
            continue
        yield _checked(str(line), text[at:end].encode(), decoder)
        at = end


def _end_of_document(text: str, at: int) -> int:
    """Return where the JSON document that begins at a place ends. Raises ValueError, RecursionError.

    The decoder gets some lines, and more while the document goes on: for an error it looks through all it
    has, so with the whole file a file of errors would take time by the square of its length.
    """
    size = _FIRST_TRY
    while True:
        newline = text.find("\n", at + size)
        piece = text[at:] if newline < 0 else text[at:newline]
        try:
            return at + _decoder.raw_decode(piece)[1]
        except json.JSONDecodeError as error:
            if newline < 0 or error.pos < len(piece.rstrip()):
                raise
        size *= 4


def _explained(error: ValueError | RecursionError) -> str:
    match error:
        case json.JSONDecodeError():
            return error.msg
        case RecursionError():
            return "nested too deeply"
    return "a number is too long"


def _checked(line: str, body: bytes, decoder: Decoder) -> FoundEvent:
    try:
        event = decoder.decode(as_delivery(body)).event
    except EventError as error:
        return FoundEvent(line, body, "", str(error))
    return FoundEvent(line, body, type_of(event), "")


def as_delivery(body: bytes) -> Delivery:
    """Return bytes as if they had been delivered, for the decoder to judge."""
    return Delivery(
        body, "", "", "", STRUCTURED_TYPE, None, b"", lambda _raw: Properties(), lambda _tag: None, 0
    )
