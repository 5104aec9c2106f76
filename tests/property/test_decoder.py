"""Whatever comes, the decoder gives an event or a reason, and quotes no customer."""

import json

from deliveries import delivery
from hypothesis import given
from hypothesis import strategies as st
from real_stack import order_event

from pipeline.errors import EventError
from pipeline.events import Reason
from pipeline.ingest.decoder import Decoder

decoder = Decoder(message_bytes_max=1_000_000)
CANARY = "canary-7f3a"
VALID = json.dumps(
    order_event("o-1", customer={"name": CANARY, "email": f"{CANARY}@example.com", "phone": CANARY})
).encode()


def decode(body: bytes) -> None:
    try:
        decoder.decode(delivery(body))
    except EventError as error:
        assert error.reason in set(Reason)
        assert CANARY not in error.detail


@given(st.binary(max_size=400))
def test_any_bytes(body: bytes) -> None:
    decode(body)


@given(st.integers(0, len(VALID) - 1), st.binary(max_size=8), st.integers(0, 40))
def test_a_valid_event_damaged_anywhere(at: int, patch: bytes, cut: int) -> None:
    decode(VALID[:at] + patch + VALID[at + cut :])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda children: (
        st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=10), children, max_size=4)
    ),
    max_leaves=10,
)


@given(st.sampled_from(sorted(order_event("o-1")["data"])), json_values)
def test_any_value_in_any_field(field: str, value: object) -> None:
    decode(json.dumps(order_event("o-1", **{field: value})).encode())
