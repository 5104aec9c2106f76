"""The published contract as tests use it: its documents, their validators, and what the decoder says."""

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml
from deliveries import delivery
from jsonschema import Draft7Validator, Draft202012Validator, validators
from jsonschema.exceptions import ValidationError
from referencing import Registry
from referencing.jsonschema import DRAFT7

from pipeline.errors import EventError
from pipeline.events import CUSTOMER_UPDATED, INVOICE_GENERATED, ORDER_PROCESSED, Reason
from pipeline.ingest.content_mode import BATCH_TYPE
from pipeline.ingest.decoder import Decoded, Decoder
from pipeline.ingest.delivery import Delivery

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "docs/reference"
TYPES = (ORDER_PROCESSED, INVOICE_GENERATED, CUSTOMER_UPDATED)

sys.path.insert(0, str(ROOT / "scripts"))  # as Python does for the command
script = import_module("render_contract")
EXAMPLES = import_module("contract_asyncapi").EXAMPLES
PREFIXES = import_module("contract_envelopes").PREFIXES

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
    CUSTOMER_UPDATED: component("#/components/schemas/CustomerUpdatedEvent"),
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


def resolved(reference: str) -> Any:
    found = document
    for name in reference.removeprefix("#/").split("/"):
        found = found[name]
    return resolved(found["$ref"]) if "$ref" in found else found
