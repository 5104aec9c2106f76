"""The published schemas and the decoder say the same, of good data, bad data and near misses."""

from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from published_contract import DATA, DATA_SCHEMAS, EVENTS, EXAMPLES, TYPES, refusal

from pipeline.events import CUSTOMER_UPDATED, INVOICE_GENERATED, ORDER_PROCESSED, Reason


@pytest.mark.parametrize("event_type", TYPES)
def test_data_schemas_are_valid_and_have_the_ids_that_events_name(event_type: str) -> None:
    schema = DATA_SCHEMAS[event_type]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == EXAMPLES[event_type]["dataschema"]


LINE = {"sku": "LP-77", "quantity": 2, "unit_price": "29.95", "title": "Blue Train"}
FULL = {
    ORDER_PROCESSED: {
        "order_id": "1001",
        "number": "#1001",
        "currency": "EUR",
        "total": "74.40",
        "processed_at": "2026-11-21T11:15:00+01:00",
        "customer": {
            "id": "c",
            "name": "n",
            "email": "e",
            "phone": "p",
            "locale": "en",
            "country": "US",
        },
        "lines": [LINE],
    },
    INVOICE_GENERATED: {
        "invoice_id": "INV-1",
        "order_id": "1001",
        "number": "1",
        "currency": "EUR",
        "total": "74.40",
        "issued_at": "2026-11-21T11:15:00+01:00",
        "document": {"content_base64": "JVBERg==", "media_type": "application/pdf", "filename": "a.pdf"},
    },
    CUSTOMER_UPDATED: {
        "customer_id": "c",
        "updated_at": "2026-11-21T11:15:00+01:00",
        "name": "n",
        "email": "e",
        "phone": "p",
        "locale": "en",
        "country": "US",
        "consent": {"sms": "in", "email": "out"},
    },
}
BY_URL = FULL[INVOICE_GENERATED] | {"document": {"url": "https://docs.example/1.pdf", "content_base64": None}}
LENGTHS = (1, 2, 3, 19, 20, 35, 36, 64, 65, 100, 101, 128, 129, 200, 201, 320, 321, 2000, 2001)
NEAR_MISSES = [
    *[None, True, False, 0, 1, -1, 1.5, 1_000_000, 1_000_001, 2**70, [], {}, [{}], ["x"]],
    *["", " ", "a b", "a\tb", "\x7f", "~", "!", "é", "a\n", "\u00a0", "\u2028", "1001"],
    *["x" * length for length in LENGTHS],
    *["😀" * length for length in (1, 200, 201)],
    *["in", "out", "In", "out ", "IN"],
    *["EUR", "EUR\n", "eur", "EU", "EURO", "ÉUR", "US", "us", "USA", "U1"],
    *["0", "00", "01.00", "1.", ".5", "1.0000", "1.00000", "-1", "+1", "1e3", "1,5", "1 ", "1.00\n", "１２"],
    *["9" * 14, "9" * 15, "9" * 14 + ".9999", "1;2", "1.00;2.00"],
    *["application/pdf", "application/pdf\n", "Application/pdf", "a/b; c=d", "a/", "image/svg+xml"],
    *["a/" + "b" * length for length in (98, 99)],
    *["2026-11-21T10:15:00Z", "2026-11-21t10:15:00z", "2026-11-21T10:15:00", "2026-11-21T10:15:00Z\n"],
    *["2026-11-21T10:15:00.Z", "2026-11-21T10:15:00.123456789-00:00", "2026-11-21T10:15Z", "2026-11-21"],
    *["2026-11-21T10:15:60Z", "2026-11-21T24:00:00Z", "2026-13-21T10:15:00Z", "2026-11-32T10:15:00Z"],
    *["2026-00-21T10:15:00Z", "2026-11-00T10:15:00Z", "2026-11-21T10:15:00+24:00", "2026-11-21T10:60:00Z"],
    *["2026-11-21T10:15:00+01", "2026-11-21T10:15:00+23:60", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z"],
]


def places(value: Any):
    """Every container within a document, with each of its keys."""
    if isinstance(value, dict | list):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from places(value[key])


def event_of(event_type: str, data: Any) -> dict:
    return {"specversion": "1.0", "type": event_type, "source": "/tests", "id": "1", "data": data}


def assert_agreement(event_type: str, data: Any) -> None:
    reason = refusal(event_of(event_type, data))
    assert DATA[event_type].is_valid(data) is (reason is None), (data, reason)
    assert reason in (None, Reason.INVALID_DATA)


@pytest.mark.parametrize(
    ("event_type", "full"),
    [*FULL.items(), (INVOICE_GENERATED, BY_URL)],
    ids=["order", "invoice", "customer", "by url"],
)
def test_on_each_field_schema_and_decoder_agree(event_type: str, full: dict) -> None:
    for value in [full, *NEAR_MISSES]:
        assert_agreement(event_type, value)
    for index in range(len(list(places(full)))):
        for value in NEAR_MISSES:
            data = deepcopy(full)
            container, key = list(places(data))[index]
            container[key] = value
            assert_agreement(event_type, data)
        data = deepcopy(full)
        container, key = list(places(data))[index]
        del container[key]
        assert_agreement(event_type, data)


@pytest.mark.parametrize("lines", [0, 1, 1000, 1001])
def test_on_the_number_of_lines_they_agree(lines: int) -> None:
    assert_agreement(ORDER_PROCESSED, FULL[ORDER_PROCESSED] | {"lines": [LINE] * lines})


# NUL and halves of surrogate pairs are below, among what a schema cannot say.
any_text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=250)
keys = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=128)
currencies = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=3, max_size=3)
money = st.from_regex(r"(0|[1-9][0-9]{0,13})(\.[0-9]{1,4})?", fullmatch=True)
offsets = st.sampled_from(["Z", "z", "+01:00", "-00:00", "+23:59", "-12:30"])
times = st.builds(lambda time, offset: time.isoformat() + offset, st.datetimes(), offsets)
# A whole number written as 2.0 is below too.
fractions = st.floats(allow_nan=False, allow_infinity=False).filter(lambda value: not value.is_integer())
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | fractions | any_text,
    lambda children: st.lists(children, max_size=3) | st.dictionaries(any_text, children, max_size=3),
    max_leaves=6,
)


def fields(required: dict, **optional: Any) -> Any:
    return st.fixed_dictionaries(
        required, optional={name: st.none() | value for name, value in optional.items()}
    )


def texts(most: int, least: int = 0) -> Any:
    return any_text.map(lambda text: text[:most]).filter(lambda text: len(text) >= least)


customers = fields(
    {},
    **{name: texts(most) for name, most in (("id", 128), ("name", 200), ("email", 320), ("phone", 64))},
    locale=texts(35),
    country=st.text("ABCXYZ", min_size=2, max_size=2),
)
consents = st.sampled_from(["in", "out"])
order_lines = fields(
    {"sku": texts(128, 1), "quantity": st.integers(1, 1_000_000), "unit_price": money}, title=texts(200)
)
invoice_documents = st.builds(
    lambda document, rest: document | rest,
    st.fixed_dictionaries({"content_base64": any_text}, optional={"url": st.none()})
    | st.fixed_dictionaries({"url": any_text}, optional={"content_base64": st.none()}),
    fields({}, filename=texts(100, 1)),
)
valid = {
    ORDER_PROCESSED: fields(
        {
            "order_id": keys,
            "currency": currencies,
            "total": money,
            "processed_at": times,
            "customer": customers,
            "lines": st.lists(order_lines, max_size=3),
        },
        number=texts(64, 1),
    ),
    INVOICE_GENERATED: fields(
        {
            "invoice_id": keys,
            "order_id": keys,
            "currency": currencies,
            "total": money,
            "issued_at": times,
            "document": invoice_documents,
        },
        number=texts(64, 1),
    ),
    CUSTOMER_UPDATED: fields(
        {"customer_id": keys, "updated_at": times},
        **{name: texts(most) for name, most in (("name", 200), ("email", 320), ("phone", 64))},
        locale=texts(35),
        country=st.text("ABCXYZ", min_size=2, max_size=2),
        consent=fields({}, sms=consents, email=consents),
    ),
}


@st.composite
def damaged(draw, event_type: str) -> Any:
    """A valid document with something put in, taken out or replaced."""
    data = draw(valid[event_type])
    for _ in range(draw(st.integers(1, 3))):
        found = list(places(data))
        if not found:
            break
        container, key = draw(st.sampled_from(found))
        action = draw(st.sampled_from(["replace", "remove", "add"]))
        if action == "replace":
            # A copy: the next round may put something into it.
            container[key] = deepcopy(draw(st.sampled_from(NEAR_MISSES) | any_json))
        elif action == "remove":
            del container[key]
        elif isinstance(container, dict):
            container[draw(any_text)] = draw(any_json)
    return data


@pytest.mark.parametrize("event_type", TYPES)
@given(st.data())
def test_valid_data_is_valid_for_both(event_type: str, data) -> None:
    found = data.draw(valid[event_type])
    DATA[event_type].validate(found)
    assert refusal(event_of(event_type, found)) is None


@pytest.mark.parametrize("event_type", TYPES)
@given(st.data())
def test_on_damaged_data_schema_and_decoder_agree(event_type: str, data) -> None:
    assert_agreement(event_type, data.draw(damaged(event_type)))


ATTRIBUTES = {
    **{name: EXAMPLES[ORDER_PROCESSED][name] for name in ("specversion", "type", "source", "id")},
    **{name: EXAMPLES[ORDER_PROCESSED][name] for name in ("time", "dataschema", "datacontenttype")},
}


def test_on_each_attribute_schema_and_decoder_agree() -> None:
    schema, data = EVENTS[ORDER_PROCESSED], FULL[ORDER_PROCESSED]
    values = [*NEAR_MISSES, *ATTRIBUTES.values(), INVOICE_GENERATED, "0.3", "x" * 256, "x" * 257, "a\x85b"]
    for name in ATTRIBUTES:
        if name == "datacontenttype":
            continue  # below
        whole = {**ATTRIBUTES, "data": data}
        for value in values:
            if name in ("id", "source") and value in ("\u00a0", "\u2028"):
                continue  # below
            event = {**whole, name: value}
            assert schema.is_valid(event) is (refusal(event) is None), event
        event = {other: value for other, value in whole.items() if other != name}
        assert schema.is_valid(event) is (refusal(event) is None), name


# --- where they differ: docs/reference/events.md says so ----------------------------------------------------

ORDER = FULL[ORDER_PROCESSED]
REFUSED_ALL_THE_SAME = {
    "NUL": ORDER | {"customer": {"name": "a\0b"}},
    "half a surrogate pair": ORDER | {"customer": {"name": "\ud800"}},
    "a day that its month has not": ORDER | {"processed_at": "2026-02-30T00:00:00Z"},
    "a whole number with a point": ORDER | {"lines": [LINE | {"quantity": 2.0}]},
}


@pytest.mark.parametrize("data", REFUSED_ALL_THE_SAME.values(), ids=REFUSED_ALL_THE_SAME)
def test_what_a_schema_cannot_say(data: dict) -> None:
    assert DATA[ORDER_PROCESSED].is_valid(data)
    assert refusal(event_of(ORDER_PROCESSED, data)) in (Reason.INVALID_DATA, Reason.MALFORMED_JSON)


@pytest.mark.parametrize("text", ["\u00a0", "\u2028", "\u200b"])
def test_a_schema_knows_of_unprintable_characters_only_the_controls(text: str) -> None:
    event = {**ATTRIBUTES, "id": text, "data": ORDER}
    assert EVENTS[ORDER_PROCESSED].is_valid(event)
    assert refusal(event) is Reason.INVALID_ENVELOPE


@pytest.mark.parametrize("time", ["2026-11-21 10:15:00Z", "2026-11-21T10:15:00+0100"])
def test_times_beside_rfc_3339_are_no_promise(time: str) -> None:
    assert not DATA[ORDER_PROCESSED].is_valid(ORDER | {"processed_at": time})
    assert refusal(event_of(ORDER_PROCESSED, ORDER | {"processed_at": time})) is None
