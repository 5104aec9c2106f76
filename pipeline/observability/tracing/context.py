"""Where a span belongs, as the W3C Trace Context recommendation writes it (w3.org/TR/trace-context)."""

import re

import msgspec

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-.*)?")
_SAMPLED = 1
_INVALID_VERSION = "ff"
_NO_TRACE, _NO_SPAN = bytes(16), bytes(8)
TRACEPARENT_CHARS = 55
STATE_CHARS_MAX = 512
"""The recommendation asks to pass on at least so much; what is longer is left out whole."""
_STATE_MEMBERS_MAX = 32
# A vendor's key may begin with a digit since level 2 of the recommendation; `@` parts tenant and system.
_MEMBER = re.compile(
    r"[a-z0-9][a-z0-9_\-*/@]{0,255}=[\x20-\x2b\x2d-\x3c\x3e-\x7e]{0,255}[\x21-\x2b\x2d-\x3c\x3e-\x7e]"
)


class TraceContext(msgspec.Struct, frozen=True, gc=False):
    """A span, by its trace and itself. `state`: the `tracestate` that goes with it, passed on as it came."""

    trace_id: bytes
    span_id: bytes
    is_sampled: bool = True
    state: str = ""

    @property
    def traceparent(self) -> str:
        """The context as a header's value."""
        return f"00-{self.trace_id.hex()}-{self.span_id.hex()}-{int(self.is_sampled):02x}"

    @property
    def text(self) -> str:
        """The context in one text, as it is kept beside a message: see `from_text`."""
        return f"{self.traceparent} {self.state}" if self.state else self.traceparent


def parse(traceparent: object, tracestate: object = None) -> TraceContext | None:
    """Return the context that headers carry; None for what is no valid `traceparent`.

    A bad `tracestate` takes nothing from the context but itself. Values may be texts or bytes.
    """
    match = _TRACEPARENT.fullmatch(_as_text(traceparent))
    if match is None:
        return None
    version, trace_id, span_id, flags, rest = match.groups()
    # Of a later version only what we know is read; ours has nothing after the flags.
    if version == _INVALID_VERSION or (version == "00" and rest is not None):
        return None
    context = TraceContext(
        bytes.fromhex(trace_id),
        bytes.fromhex(span_id),
        bool(int(flags, 16) & _SAMPLED),
        _state(_as_text(tracestate)),
    )
    return None if context.trace_id == _NO_TRACE or context.span_id == _NO_SPAN else context


def from_text(text: str) -> TraceContext | None:
    """Return the context that was kept beside a message; None for what is none."""
    traceparent, _, state = text.partition(" ")
    return parse(traceparent, state)


def _as_text(value: object) -> str:
    if isinstance(value, bytes | bytearray):
        return value.decode("latin-1")
    return value if isinstance(value, str) else ""


def _state(text: str) -> str:
    """Return a `tracestate` that is valid, else nothing."""
    if not text or len(text) > STATE_CHARS_MAX:
        return ""
    members = [member.strip(" \t") for member in text.split(",")]
    members = [member for member in members if member]
    keys = {member.partition("=")[0] for member in members}
    if len(keys) != len(members) or len(members) > _STATE_MEMBERS_MAX:
        return ""
    return ",".join(members) if all(map(_MEMBER.fullmatch, members)) else ""
