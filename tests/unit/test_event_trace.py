"""The trace an event comes with: in its message's headers or in itself, sampled or not, or none."""

from typing import Any

import orjson
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from consumers.lean.wire import property_bytes, read_properties
from pipeline.ingest import event_trace
from pipeline.ingest.batcher import Item
from pipeline.ingest.delivery import Delivery
from pipeline.ingest.event_trace import UNSAMPLED, trace_of
from pipeline.observability.tracing.context import parse

ONE, TWO = (f"00-{digit * 32}-{digit * 16}-01" for digit in "12")
OFF = ONE[:-2] + "00"
MALFORMED = ("", "00-0-0-01", "not a trace", ONE.upper() + "x", f"00-{'0' * 32}-{'1' * 16}-01", "\u20ac" * 20)


def item(
    headers: dict[str, Any] | None = None, event: dict[str, Any] | None = None, *, member: bytes | None = None
) -> Item:
    """An event as a consumer makes it, with the bytes of its properties."""
    raw = property_bytes(content_type="application/cloudevents+json", headers=headers)
    body = orjson.dumps(event or {"specversion": "1.0", "data": {}})
    made = Delivery(
        body, "order-processed", "orders", "order.processed", None, None, raw, read_properties, print, 0
    )
    return Item(None, made, member)


def found(*arguments: Any, **more: Any) -> str | None:
    context = trace_of(item(*arguments, **more))
    return None if context is None else context.traceparent


@pytest.mark.parametrize("prefix", ["", "cloudEvents:", "cloudEvents_", "ce-"])
def test_it_is_found_in_the_headers(prefix: str) -> None:
    context = trace_of(item({f"{prefix}traceparent": ONE, f"{prefix}tracestate": "a=1", "other": "x"}))
    assert context == parse(ONE, "a=1")


def test_it_is_found_in_the_event() -> None:
    assert trace_of(item({}, {"traceparent": TWO, "tracestate": "b=2"})) == parse(TWO, "b=2")


def test_the_headers_count_before_the_event_but_for_a_member_of_a_batch() -> None:
    assert found({"traceparent": ONE}, {"traceparent": TWO}) == ONE
    member = orjson.dumps({"traceparent": TWO})
    assert found({"traceparent": ONE}, member=member) == TWO
    assert found({"traceparent": ONE}, member=b"{}") == ONE
    assert found({}, {"traceparent": ONE}, member=b"{}") is None, "the body is the whole batch's"


@pytest.mark.parametrize("bad", MALFORMED)
def test_what_is_malformed_is_as_if_it_were_not_there(bad: str) -> None:
    assert found({"traceparent": bad}) is None
    assert found({}, {"traceparent": bad}) is None
    assert found({"traceparent": bad}, {"traceparent": TWO}) == TWO


@pytest.mark.parametrize("value", [7, True, None, {"traceparent": ONE}, [ONE], bytearray(b"\xff\xfe")])
def test_a_header_that_is_no_text_is_none(value: Any) -> None:
    assert found({"traceparent": value}) is None


@pytest.mark.parametrize(
    "body", [b'{"traceparent":7}', b'["traceparent"]', b'{"traceparent', b'"traceparent"', b"traceparent\xff"]
)
def test_a_body_that_is_no_event_is_none(body: bytes) -> None:
    assert found(member=body) is None


def test_properties_that_nobody_can_read_are_none() -> None:
    made = item()
    made.delivery.raw_properties = b"\xff\xfftraceparent"
    assert trace_of(made) is None


def test_what_is_not_sampled_is_known_without_taking_anything_apart() -> None:
    def refuse(_raw: bytes) -> None:
        raise AssertionError("taken apart")

    for made in (item({"traceparent": OFF}), item({"ce-traceparent": OFF}), item({}, {"traceparent": OFF})):
        made.delivery.read_properties = refuse
        assert trace_of(made) is UNSAMPLED


contexts = st.builds(
    "{}-{}-{}-{}".format,
    *(st.sampled_from(texts) for texts in (
        ("00", "ff", "01", "0x"), ("1" * 32, "0" * 32, "a" * 31), ("2" * 16, "0" * 16, "F" * 16),
        ("00", "01", "02", "1", "fe", "fg", "01-more"),
    )),
)  # fmt: skip


some = st.none() | st.sampled_from((ONE, OFF, OFF.replace("1", "3"))) | contexts


@example(header=ONE, extension=None, other=OFF)
@given(header=some, extension=some, other=some)
def test_the_short_way_says_what_the_long_one_does(
    header: str | None, extension: str | None, other: str | None
) -> None:
    headers = {name: value for name, value in (("traceparent", header), ("ce-traceparent", other)) if value}
    made = item(headers, {"traceparent": extension} if extension else {})
    short = trace_of(made)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(event_trace, "_is_unsampled", lambda _after: False)
        long = trace_of(made)
    assert (short is None, short is not None and short.is_sampled) == (
        long is None,
        long is not None and long.is_sampled,
    )
    assert short is UNSAMPLED or short == long
