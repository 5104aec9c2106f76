"""Documents of other systems, and what the adapters make of them."""

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from consumers.event_files import as_delivery
from pipeline.adapters.mapping import builtin_adapters, load_adapter
from pipeline.errors import EventError
from pipeline.ingest.decoder import Decoder

SAMPLES = Path(__file__).parent / "data" / "upstream"
decoder = Decoder(message_bytes_max=1_000_000)
ADAPTERS = {name: load_adapter(name) for name in builtin_adapters()}


def sample(name: str) -> Any:
    return json.loads((SAMPLES / name).read_text(encoding="utf-8"))


def adapted(vendor: str, document: Any, headers: dict[str, str] | None = None) -> list[dict[str, Any]]:
    """The events of a document, as the real decoder understands them."""
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    bodies = ADAPTERS[vendor].adapt(raw, headers or {})
    return [msgspec.to_builtins(decoder.decode(as_delivery(body)).event) for body in bodies]


def refused(vendor: str, document: Any, headers: dict[str, str] | None = None) -> EventError:
    raw = document if isinstance(document, bytes) else json.dumps(document).encode()
    with pytest.raises(EventError) as caught:
        ADAPTERS[vendor].adapt(raw, headers or {})
    return caught.value


def shopify_order(**changes: Any) -> dict[str, Any]:
    return {**sample("shopify/order_api_go-shopify.json")["order"], "cancelled_at": None, **changes}


def woo_order(**changes: Any) -> dict[str, Any]:
    return {**sample("woocommerce/order_v3_1_processing.json"), **changes}


def stripe_event(event_type: str = "invoice.finalized", **invoice: Any) -> dict[str, Any]:
    event = sample("stripe/invoice.finalized.json")
    event["type"] = event_type
    event["data"]["object"].update(invoice)
    return event


def square_event(event_type: str = "invoice.published", **invoice: Any) -> dict[str, Any]:
    event = sample("square/invoice.published.json")
    event["type"] = event_type
    event["data"]["object"]["invoice"].update(invoice)
    return event


def saleor_order(**changes: Any) -> dict[str, Any]:
    return {"order": {**sample("saleor/orderConfirmedPayload.json")["order"], **changes}}
