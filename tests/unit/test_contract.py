"""The published contract: up to date, valid, and the same as what the decoder takes."""

import importlib.util
import json
import re
import sys
from copy import deepcopy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import yaml
from deliveries import delivery
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator, Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT7

from consumers import topology
from consumers.event_files import as_delivery
from pipeline.errors import EventError
from pipeline.events import INVOICE_GENERATED, ORDER_PROCESSED, Reason
from pipeline.ingest.content_mode import BATCH_TYPE, JSON_TYPE, STRUCTURED_TYPE
from pipeline.ingest.decoder import Decoded, Decoder
from pipeline.ingest.delivery import Delivery

ROOT = Path(__file__).parents[2]
REFERENCE = ROOT / "docs/reference"
TYPES = (ORDER_PROCESSED, INVOICE_GENERATED)


def load_script() -> Any:
    spec = importlib.util.spec_from_file_location("render_contract", ROOT / "scripts/render_contract.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


contract = load_script()
decoder = Decoder(message_bytes_max=1_000_000)
document = yaml.safe_load((REFERENCE / "asyncapi.yaml").read_text(encoding="utf-8"))


def pattern_of_ecma(_validator, pattern: str, value, _schema):
    # In JSON Schema `$` is the very end; Python's also stands before a last line break.
    if isinstance(value, str) and not re.search(re.sub(r"\$$", r"\\Z", pattern), value):
        yield ValidationError(f"does not match {pattern}")


Strict2020 = validators.extend(Draft202012Validator, {"pattern": pattern_of_ecma})
Strict7 = validators.extend(Draft7Validator, {"pattern": pattern_of_ecma})
DATA_SCHEMAS = {
    event_type: json.loads((REFERENCE / f"schemas/{event_type}.schema.json").read_text())
    for event_type in TYPES
}
DATA = {event_type: Strict2020(schema) for event_type, schema in DATA_SCHEMAS.items()}
REGISTRY = Registry().with_resource("urn:asyncapi", DRAFT7.create_resource(document))


def component(reference: str) -> Any:
    return Strict7({"$ref": f"urn:asyncapi{reference}"}, registry=REGISTRY)


EVENTS = {
    ORDER_PROCESSED: component("#/components/schemas/OrderProcessedEvent"),
    INVOICE_GENERATED: component("#/components/schemas/InvoiceGeneratedEvent"),
}


def encoded(value) -> bytes:
    return json.dumps(value).encode()


def refusal(event: dict) -> Reason | None:
    """Why the decoder refuses an event; None when it takes it."""
    try:
        decoder.decode(delivery(encoded(event)))
    except EventError as error:
        return error.reason
    return None


def members(taken: Delivery) -> list[Decoded]:
    """The events of a delivery in whatever mode. Raises EventError when one is refused."""
    if taken.content_type == BATCH_TYPE:
        return [decoder.decode_structured(member) for member in decoder.members(taken)]
    return [decoder.decode(taken)]


# --- files ------------------------------------------------------------------------------------------------


def test_the_files_are_what_the_script_makes() -> None:
    for path, text in contract.render().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"
    assert document == contract.asyncapi()


def test_the_script_tells_what_is_out_of_date(tmp_path: Path, monkeypatch, capsys) -> None:
    stale = tmp_path / "asyncapi.yaml"
    monkeypatch.setattr(contract, "render", lambda: {stale: "asyncapi: 3.0.0\n"})
    monkeypatch.setattr(sys, "argv", ["render_contract.py", "--check"])
    assert contract.main() == 1
    assert "asyncapi.yaml is out of date" in capsys.readouterr().out
    monkeypatch.setattr(sys, "argv", ["render_contract.py"])
    assert contract.main() == 0
    monkeypatch.setattr(sys, "argv", ["render_contract.py", "--check"])
    assert contract.main() == 0


# --- AsyncAPI ---------------------------------------------------------------------------------------------


def references(value: Any):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


def resolved(reference: str) -> Any:
    found = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return resolved(found["$ref"]) if "$ref" in found else found


def test_the_document_is_asyncapi() -> None:
    schema = json.loads((ROOT / "tests/data/asyncapi/asyncapi-3.0.0.schema.json").read_text(encoding="utf-8"))
    errors = [
        f"{error.json_path}: {error.message}" for error in Draft7Validator(schema).iter_errors(document)
    ]
    assert not errors
    broken = deepcopy(document)
    broken["channels"]["orderProcessed"]["bindings"]["amqp"]["is"] = "topic"
    assert not Draft7Validator(schema).is_valid(broken)


def test_every_reference_leads_somewhere() -> None:
    for reference in references(document):
        assert resolved(reference)


def test_operations_name_messages_of_their_channel() -> None:
    # The schema of AsyncAPI cannot say it.
    for operation in document["operations"].values():
        assert operation["action"] == "receive"
        channel = operation["channel"]["$ref"]
        names = [message["$ref"].removeprefix(f"{channel}/messages/") for message in operation["messages"]]
        assert names == list(resolved(channel)["messages"])


def test_payload_schemas_are_valid() -> None:
    for schema in document["components"]["schemas"].values():
        Draft7Validator.check_schema(schema)


class Declared:
    """Takes the place of a channel, and keeps what is declared on it."""

    def __init__(self) -> None:
        self.exchanges: dict[str, dict] = {}
        self.queues: dict[str, dict] = {}

    async def declare_exchange(self, name: str, kind, *, durable: bool, arguments=None) -> SimpleNamespace:
        self.exchanges[name] = {"type": kind.value, "durable": durable, **(arguments or {})}
        return SimpleNamespace(name=name)

    async def declare_queue(self, name: str, *, durable: bool, arguments: dict) -> SimpleNamespace:
        queue = self.queues[name] = {"durable": durable, "arguments": arguments, "bound_to": []}

        async def bind(exchange: SimpleNamespace, routing_key: str | None = None) -> None:
            binding = {"exchange": exchange.name, "routingKey": routing_key}
            queue["bound_to"].append({name: value for name, value in binding.items() if value})

        return SimpleNamespace(bind=bind)


async def test_channels_are_what_the_topology_declares() -> None:
    declared = Declared()
    await topology.apply_topology(declared)
    queues = set(declared.queues)
    for channel in document["channels"].values():
        binding = channel["bindings"]["amqp"]
        if binding["is"] == "routingKey":
            found = declared.exchanges[binding["exchange"]["name"]]
            assert (found["type"], found["durable"]) == ("topic", binding["exchange"]["durable"])
            assert found["alternate-exchange"] == channel["x-alternate-exchange"]
            continue
        found = declared.queues[channel["address"]]
        queues.remove(channel["address"])
        assert binding["queue"]["name"] == channel["address"]
        assert found["durable"] is binding["queue"]["durable"] is True
        assert found["arguments"] == channel["x-arguments"]
        assert channel["x-bound-to"] in found["bound_to"]
    assert queues == {f"retry.{delay_s}s" for delay_s in topology.RETRY_LADDER_S}


# --- examples ---------------------------------------------------------------------------------------------

FILES = [path for path in sorted((ROOT / "examples").iterdir()) if path.suffix in (".json", ".jsonl")]
FILE_EVENTS = [
    (f"{path.name}:{number}", json.loads(text))
    for path in FILES
    for number, text in enumerate(
        path.read_text(encoding="utf-8").splitlines()
        if path.suffix == ".jsonl"
        else [path.read_text("utf-8")]
    )
]
SENT = [
    (f"{channel['address']}: {name}, {example['name']}", channel, name, example)
    for channel in document["channels"].values()
    if channel["bindings"]["amqp"]["is"] == "routingKey"
    for name in channel["messages"]
    for example in resolved(f"#/components/messages/{name}")["examples"]
]


@pytest.mark.parametrize("event", [event for _, event in FILE_EVENTS], ids=[name for name, _ in FILE_EVENTS])
def test_example_files_keep_the_contract(event: dict) -> None:
    EVENTS[event["type"]].validate(event)
    DATA[event["type"]].validate(event["data"])
    assert decoder.decode(as_delivery(encoded(event))).event.id == event["id"]


@pytest.mark.parametrize(
    ("channel", "name", "example"), [row[1:] for row in SENT], ids=[row[0] for row in SENT]
)
def test_examples_of_messages_keep_the_contract(channel: dict, name: str, example: dict) -> None:
    message = resolved(f"#/components/messages/{name}")
    headers, payload = example.get("headers", {}), example["payload"]
    taken = delivery(
        encoded(payload), message["contentType"], routing_key=channel["address"], headers=headers
    )
    ids = [decoded.event.id for decoded in members(taken)]
    if "correlationId" in message:
        part, field = re.fullmatch(r"\$message\.(\w+)#/(.+)", message["correlationId"]["location"]).groups()
        assert ids == [{"payload": payload, "header": headers}[part][field]]
    # AsyncAPI: a message of a channel is valid against exactly one of those it lists.
    valid = [
        other
        for other in channel["messages"]
        if fits(resolved(f"#/components/messages/{other}"), headers, payload)
    ]
    assert valid == [name]


def fits(message: dict, headers: dict, payload: Any) -> bool:
    return component(message["payload"]["$ref"]).is_valid(payload) and (
        "headers" not in message or component(message["headers"]["$ref"]).is_valid(headers)
    )


@pytest.mark.parametrize("prefix", contract.PREFIXES)
def test_every_prefix_of_binary_mode_is_in_the_schema(prefix: str) -> None:
    event = dict(contract.EXAMPLES[ORDER_PROCESSED])
    body = encoded(event.pop("data"))
    headers = {prefix + name: value for name, value in event.items()}
    schema = component("#/components/schemas/OrderProcessedHeaders")
    for name in [None, *headers]:
        fewer = {other: value for other, value in headers.items() if other != name}
        optional = name is None or name.removeprefix(prefix) in ("time", "datacontenttype", "dataschema")
        assert schema.is_valid(fewer) is optional
        try:
            decoder.decode(delivery(body, JSON_TYPE, headers=fewer))
            taken = True
        except EventError:
            taken = False
        assert taken is optional


# --- the schemas and the decoder say the same ---------------------------------------------------------------


@pytest.mark.parametrize("event_type", TYPES)
def test_data_schemas_are_valid_and_have_the_ids_that_events_name(event_type: str) -> None:
    schema = DATA_SCHEMAS[event_type]
    Draft202012Validator.check_schema(schema)
    assert schema["$id"] == contract.EXAMPLES[event_type]["dataschema"]


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
}
BY_URL = FULL[INVOICE_GENERATED] | {"document": {"url": "https://docs.example/1.pdf", "content_base64": None}}
LENGTHS = (1, 2, 3, 19, 20, 35, 36, 64, 65, 100, 101, 128, 129, 200, 201, 320, 321, 2000, 2001)
NEAR_MISSES = [
    *[None, True, False, 0, 1, -1, 1.5, 1_000_000, 1_000_001, 2**70, [], {}, [{}], ["x"]],
    *["", " ", "a b", "a\tb", "\x7f", "~", "!", "é", "a\n", "\u00a0", "\u2028", "1001"],
    *["x" * length for length in LENGTHS],
    *["😀" * length for length in (1, 200, 201)],
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
    ("event_type", "full"), [*FULL.items(), (INVOICE_GENERATED, BY_URL)], ids=["order", "invoice", "by url"]
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
    **{name: contract.EXAMPLES[ORDER_PROCESSED][name] for name in ("specversion", "type", "source", "id")},
    **{name: contract.EXAMPLES[ORDER_PROCESSED][name] for name in ("time", "dataschema", "datacontenttype")},
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


# --- the page -----------------------------------------------------------------------------------------------

PAGE = (REFERENCE / "events.md").read_text(encoding="utf-8")


def test_the_page_names_every_reason() -> None:
    section = PAGE.partition("## Reasons for quarantine")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(Reason)


def test_the_page_links_to_files_that_are_there() -> None:
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", PAGE):
        assert (REFERENCE / target).exists(), target


class Pika(SimpleNamespace):
    """What the page's examples use of pika. Keeps what is published."""

    def __init__(self) -> None:
        super().__init__(published=[])

    def URLParameters(self, url: str) -> str:  # noqa: N802  # pika's name
        return url

    def BlockingConnection(self, _parameters: str) -> SimpleNamespace:  # noqa: N802  # pika's name
        channel = SimpleNamespace(confirm_delivery=lambda: None, basic_publish=self.basic_publish)
        return SimpleNamespace(channel=lambda: channel)

    def BasicProperties(self, **properties: Any) -> dict:  # noqa: N802  # pika's name
        return properties

    def basic_publish(
        self, exchange: str, routing_key: str, body: str, properties: dict, *, mandatory: bool
    ) -> None:
        assert exchange == topology.EXCHANGE
        assert properties.pop("delivery_mode") == 2
        assert mandatory
        content_type, headers = properties.pop("content_type"), properties.pop("headers", {})
        assert not properties
        self.published.append(delivery(body.encode(), content_type, routing_key=routing_key, headers=headers))


def test_the_examples_of_the_page_are_taken(monkeypatch) -> None:
    pika = Pika()
    monkeypatch.setitem(sys.modules, "pika", pika)
    monkeypatch.chdir(ROOT)
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), {})  # as a reader would run it
    taken = [[decoded.event.id for decoded in members(sent)] for sent in pika.published]
    order, invoice = (contract.EXAMPLES[event_type]["id"] for event_type in TYPES)
    assert taken == [[order], [order], [order, invoice], [order], ["order-1001-processed"]]
    content_types = [sent.content_type for sent in pika.published]
    assert content_types == [STRUCTURED_TYPE, STRUCTURED_TYPE, BATCH_TYPE, JSON_TYPE, JSON_TYPE]
