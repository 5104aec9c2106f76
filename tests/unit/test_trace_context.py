"""W3C Trace Context: what is a context, what is none, and what a bad `tracestate` takes along."""

import pytest

from pipeline.observability.tracing.context import TraceContext, from_text, parse

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GOOD = f"00-{TRACE}-{SPAN}-01"


def test_a_context_is_read_and_written_as_it_was() -> None:
    context = parse(GOOD, "congo=t61rcWkgMzE,rojo=00f067aa0ba902b7")
    assert context is not None
    assert (context.trace_id.hex(), context.span_id.hex(), context.is_sampled) == (TRACE, SPAN, True)
    assert context.traceparent == GOOD
    assert from_text(context.text) == context
    assert from_text(GOOD) == TraceContext(bytes.fromhex(TRACE), bytes.fromhex(SPAN))


@pytest.mark.parametrize(
    ("flags", "is_sampled"), [("00", False), ("01", True), ("02", False), ("03", True), ("ff", True)]
)
def test_only_the_lowest_flag_says_whether_it_is_sampled(flags: str, *, is_sampled: bool) -> None:
    context = parse(f"00-{TRACE}-{SPAN}-{flags}")
    assert context is not None
    assert context.is_sampled is is_sampled


@pytest.mark.parametrize(
    "text",
    [
        *("", "00", GOOD[:-1], GOOD + "0", GOOD.upper(), " " + GOOD, GOOD + "\n"),
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more",
        f"00-{TRACE[:-1]}g-{SPAN}-01",
        f"00_{TRACE}_{SPAN}_01",
        *(None, 7, {}, [GOOD], b"", b"\xff" * 55),
    ],
)
def test_what_is_no_valid_context_is_none(text: object) -> None:
    assert parse(text) is None


def test_of_a_later_version_what_we_know_is_read() -> None:
    context = parse(f"cc-{TRACE}-{SPAN}-01-what-the-future-will-be-like")
    assert context is not None
    assert context.traceparent == GOOD
    assert parse(f"cc-{TRACE}-{SPAN}-01x") is None


@pytest.mark.parametrize(
    ("state", "kept"),
    [
        ("a=1", "a=1"),
        ("a=1 , b=2,,", "a=1,b=2"),
        ("fw529a3039@dt=FfAAAAAA", "fw529a3039@dt=FfAAAAAA"),
        (b"a=1", "a=1"),
        *((bad, "") for bad in ("a", "A=1", "a=1,a=2", "a=\x7f", "a=b=c", "=1", "a=", "é=1", 5, None)),
        (",".join(f"k{n}=1" for n in range(32)), ",".join(f"k{n}=1" for n in range(32))),
        (",".join(f"k{n}=1" for n in range(33)), ""),
        ("a=" + "1" * 600, ""),
    ],
)
def test_a_state_is_passed_on_or_left_out_and_the_context_stays(state: object, kept: str) -> None:
    context = parse(GOOD.encode(), state)
    assert context is not None
    assert context.state == kept
