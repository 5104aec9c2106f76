"""The files of the published contract are up to date, and AsyncAPI of the topology that is there."""

import json
from copy import deepcopy
from types import SimpleNamespace
from typing import Any

from jsonschema import Draft7Validator
from published_contract import ROOT, document, resolved, script

from consumers import topology


def test_the_files_are_what_the_script_makes() -> None:
    for path, text in script.render().items():
        assert path.read_text(encoding="utf-8") == text, f"{path.name}: run `make docs`"
    assert document == script.asyncapi()


def references(value: Any):
    if isinstance(value, dict):
        if isinstance(value.get("$ref"), str):
            yield value["$ref"]
        for item in value.values():
            yield from references(item)
    elif isinstance(value, list):
        for item in value:
            yield from references(item)


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
