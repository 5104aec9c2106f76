"""Every delivery of the corpus ends as the contract says, within bounded time, and quotes nobody."""

import json
import time
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Iterator
from functools import cache
from typing import Any

import pytest
from data.corpus.entries import Entry, corpus, expanded
from data.corpus.intake import Intake, Judged, delivery_of, judged

from pipeline.events import Reason
from pipeline.ingest.delivery import Delivery
from pipeline.storage.rows import QuarantineRow

LIMIT_S = 1.0  # several times the slowest one, on a slow machine
CANARIES = ("Zdenka", "Kanarek", "zdenka.kanarek@example.com", "4155550199")
# Texts of the contract itself, which a detail may well name.
KNOWN = {"1.0", "74.40", "order.processed", "invoice.generated", "application/json"}
intake = Intake()


def verdicts(entry: Entry) -> list[Judged]:
    return verdicts_of(entry.id)


@cache
def verdicts_of(name: str) -> list[Judged]:
    entry = corpus()[name]
    before = intake.take(delivery_of(corpus()[entry.after])[0]) if entry.after else []
    return judged(intake.take(delivery_of(entry)[0]), before)


def texts_in(value: Any) -> Iterator[str]:
    match value:
        case str():
            yield value
        case dict():
            for item in value.values():
                yield from texts_in(item)
        case list():
            for item in value:
                yield from texts_in(item)


def values_of(body: bytes) -> set[str]:
    """Return the texts of a body that are long enough to tell something, if it is JSON at all."""
    try:
        document = json.loads(body)
        if isinstance(document, dict) and isinstance(document.get("data_base64"), str):
            document["data"] = json.loads(b64decode(document["data_base64"]))
    except (ValueError, RecursionError, Base64Error):
        return set()
    return {text for text in texts_in(document) if len(text) >= 4 and text.strip() not in KNOWN}


def entries() -> list[Any]:
    """Return every entry. Where code and contract differ the contract stands, and the test must fail."""
    return [
        pytest.param(entry, id=name, marks=[pytest.mark.xfail(reason=entry.defect)] if entry.defect else [])
        for name, entry in corpus().items()
    ]


@pytest.mark.parametrize("entry", entries())
def test_a_delivery_ends_as_the_contract_says(entry: Entry) -> None:
    found = verdicts(entry)
    reasons = [verdict.row.reason if verdict.kind == "quarantine" else "" for verdict in found]
    assert list(zip((verdict.kind for verdict in found), reasons, strict=True)) == [
        (expected.kind, expected.reason) for expected in entry.expected
    ]
    assert all(entry.names(verdict.row.order_id) for verdict in found if verdict.kind != "quarantine")


@pytest.mark.parametrize("entry", entries())
def test_a_quarantined_delivery_is_kept_whole_and_its_detail_quotes_nobody(entry: Entry) -> None:
    assert_reasons(entry)
    body = entry.raw_body
    for kind, row in verdicts(entry):
        if kind != "quarantine":
            continue
        assert isinstance(row, QuarantineRow)
        assert row.body == body if entry.members is None else row.body in body
        assert 0 < len(row.detail) <= 300
        assert row.detail.isprintable()
        quoted = [value for value in values_of(row.body) if value in row.detail]
        quoted += [canary for canary in CANARIES if canary in row.detail]
        assert not quoted
        assert "\0" not in f"{row.routing_key}{row.content_type}{row.message_id}"
        assert "\\u0000" not in row.headers
        json.loads(row.headers)


def assert_reasons(entry: Entry) -> None:
    """Let an entry with a defect fail here too, whatever about it is wrong."""
    if entry.defect:
        test_a_delivery_ends_as_the_contract_says(entry)


@pytest.mark.parametrize("entry", corpus().values(), ids=corpus())
def test_a_delivery_is_taken_in_bounded_time_and_always_the_same(entry: Entry) -> None:
    again = [item.row for item in intake.take(delivery_of(entry)[0])]
    delivery, settled = delivery_of(entry)
    started = time.perf_counter()
    items = intake.take(delivery)
    assert time.perf_counter() - started < LIMIT_S
    assert [item.row for item in items] == again
    for item in items:
        assert not settled
        item.delivery.event_settled()
    assert settled == [delivery.tag]  # once, with the last of its events


def nested(name: str, depth: int) -> bytes:
    """Return an entry's body with an unlisted field of that depth."""
    gift = b'{"gift":' + b"[" * depth + b"]" * depth + b","
    return corpus()[name].raw_body.replace(b"{", gift, 1)


@pytest.mark.parametrize("name", ["c-096-unlisted", "b-078-data-base64"])
def test_no_depth_falls_between_two_readers(name: str) -> None:
    """Where reading gives up depends on the stack, so every depth around there is tried."""
    reasons = []
    for depth in range(500, 1010):
        [item] = intake.take(replaced(corpus()[name], nested(name, depth)))
        reasons.append(getattr(item.row, "reason", ""))
    assert reasons == sorted(reasons)
    assert set(reasons) == {"", "malformed_json"}


def replaced(entry: Entry, body: bytes) -> Delivery:
    delivery, _ = delivery_of(entry)
    delivery.body = body
    return delivery


def test_the_corpus_is_whole() -> None:
    """Every entry says what it is; every reason that a delivery alone can have is there."""
    found = corpus().values()
    assert len(found) >= 150
    assert all(entry.what and entry.broker != bool(entry.broker_why) for entry in found)
    reasons = {expected.reason for entry in found for expected in entry.expected if expected.reason}
    assert reasons == set(Reason) - {Reason.RETRIES_EXHAUSTED, Reason.DEFECT}
    for entry in found:
        for text, told in zip((entry.content_type, entry.content_encoding), heads(entry), strict=True):
            assert told == (None if text is None else expanded(text).decode(errors="backslashreplace"))


def heads(entry: Entry) -> tuple[str | None, str | None]:
    delivery, _ = delivery_of(entry)
    return delivery.content_type, delivery.content_encoding
