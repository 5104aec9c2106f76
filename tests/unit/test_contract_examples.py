"""Every published example keeps the contract, and the decoder takes it."""

import json
import re
from typing import Any

import pytest
from deliveries import delivery
from published_contract import (
    DATA,
    EVENTS,
    EXAMPLES,
    PREFIXES,
    ROOT,
    component,
    decoder,
    document,
    encoded,
    members,
    resolved,
)

from consumers.event_files import as_delivery
from pipeline.errors import EventError
from pipeline.events import ORDER_PROCESSED
from pipeline.ingest.content_mode import JSON_TYPE

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


@pytest.mark.parametrize("prefix", PREFIXES)
def test_every_prefix_of_binary_mode_is_in_the_schema(prefix: str) -> None:
    event = dict(EXAMPLES[ORDER_PROCESSED])
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
