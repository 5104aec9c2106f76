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
    while (at := _BETWEEN.match(text, at).end()) < len(text):  # type: ignore[union-attr]  # as above
        if in_array and text[at] == "]":
            return
        line = text.count("\n", 0, at) + 1
        try:
            _, end = _decoder.raw_decode(text, at)
        except (json.JSONDecodeError, RecursionError) as error:
            what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
            yield FoundEvent(str(line), b"", "", f"{Reason.MALFORMED_JSON}: {what}")
            if in_array:
                return
            newline = text.find("\n", at)
            at = len(text) if newline < 0 else newline
            continue
        yield _checked(str(line), text[at:end].encode(), decoder)
        at = end


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
