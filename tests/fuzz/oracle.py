"""What must hold for every delivery, whatever it is."""

import json
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

import msgspec

sys.path.insert(0, str(Path(__file__).parent.parent))

from deliveries import delivery
from fuzz.grammar import CANARY, Case

from pipeline.errors import EventError
from pipeline.events import Reason
from pipeline.ingest.content_mode import ContentMode
from pipeline.ingest.decoder import Decoded, Decoder
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.entries import EntryBuilder, quarantine_row
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.storage.customers import _customer_values
from pipeline.storage.rows import AnyRow, CustomerRow, InvoiceRow, OrderRow
from pipeline.storage.writer import _invoice_values, _order_row

_ID_CHARS_MAX = 256
_DETAIL_CHARS_MAX = 300
_REASONS = frozenset(Reason)


class FindingError(Exception):
    """Something that must hold does not."""


class Oracle:
    """Judges cases. Keeps the times, and counts what became of them by reason."""

    def __init__(self) -> None:
        self._decoder = Decoder(message_bytes_max=1_000_000)
        self._entries = EntryBuilder(
            Router(ShardMap.first({"a": 1, "b": 1})),
            document_bytes_max=1000,
            document_hosts=("docs.example",),
            allow_http=False,
        )
        self.seconds: list[float] = []
        self.outcomes: dict[str, int] = {}

    def judge(self, case: Case) -> None:
        """Decode a case. Raises FindingError, saying what does not hold."""
        taken = delivery(
            case.body, case.content_type, routing_key=case.routing_key, headers=dict(case.headers)
        )
        started = perf_counter()
        found = self._decoded(taken)
        self.seconds.append(perf_counter() - started)
        for member, result in found:
            if isinstance(result, EventError):
                self._count(result.reason)
                _check_refusal(result, taken, member)
            else:
                self._count("accepted")
                self._check_event(result, taken, member)

    def _count(self, outcome: str) -> None:
        self.outcomes[outcome] = self.outcomes.get(outcome, 0) + 1

    def _decoded(self, taken: Delivery) -> list[tuple[bytes | None, Decoded | EventError]]:
        try:
            if self._decoder.mode(taken) is not ContentMode.BATCH:
                return [(None, self._decoder.decode(taken))]
            members = self._decoder.members(taken)
        except EventError as error:
            return [(None, error)]
        except Exception as error:
            raise FindingError(f"the decoder raises {type(error).__name__}") from error
        return [(member, self._decoded_member(member)) for member in members]

    def _decoded_member(self, member: bytes) -> Decoded | EventError:
        try:
            return self._decoder.decode_structured(member)
        except EventError as error:
            return error
        except Exception as error:
            raise FindingError(f"the decoder raises {type(error).__name__} for a member") from error

    def _check_event(self, decoded: Decoded, taken: Delivery, member: bytes | None) -> None:
        """An event can be written, means the same when written again, and had no key twice."""
        _check_unique(taken.body if member is None else member)
        try:
            _, row = self._entries.of_event(decoded)
        except EventError as error:
            _check_refusal(error, taken, member)
            return
        try:
            _written(row)
        except (OverflowError, ValueError):
            pass  # the writer's caller takes these: refused by the database
        except Exception as error:
            raise FindingError(f"a row cannot be written: {type(error).__name__}") from error
        if len(decoded.event.id) > _ID_CHARS_MAX:
            return  # made of a plain invoice's two ids, which together may be longer than an id
        again = self._decoder.decode_structured(msgspec.json.encode(decoded.event))
        if again.canonical != decoded.canonical:
            raise FindingError("written and read again, an event's data differs")
        if again.event != decoded.event:
            raise FindingError("written and read again, an event differs")


def _written(row: AnyRow) -> None:
    """Turn a row into what the driver gets."""
    match row:
        case OrderRow():
            _order_row(row)
        case InvoiceRow():
            _invoice_values(row)
        case CustomerRow():
            _customer_values(row)


def _check_refusal(error: EventError, taken: Delivery, member: bytes | None) -> None:
    """A refusal has a reason, quotes nobody, and leaves the bytes as they were."""
    if error.reason not in _REASONS:
        raise FindingError(f"no reason: {error.reason}")
    if CANARY in error.detail:
        raise FindingError("the detail quotes a customer")
    if not (0 < len(error.detail) <= _DETAIL_CHARS_MAX and error.detail.isprintable()):
        raise FindingError("the detail is no line of text")
    row = quarantine_row(taken, member, error.reason, error.detail)
    if row.body != (taken.body if member is None else member):
        raise FindingError("quarantine keeps other bytes")


def _check_unique(body: bytes) -> None:
    """Ask another reader whether a body that was accepted is JSON with no key twice."""

    def unique(pairs: list[tuple[str, Any]]) -> None:
        if len({key for key, _ in pairs}) != len(pairs):
            raise FindingError("accepted, with a key twice")

    try:
        json.loads(body, object_pairs_hook=unique)
    except ValueError as error:
        raise FindingError("accepted, but another reader takes it for no JSON") from error
