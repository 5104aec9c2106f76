"""The events Postorder understands: CloudEvents 1.0 of three types, and what makes one valid.

Contract: times carry an offset, money is a decimal string with a currency, ids are strings. A value that
breaks a rule here never reaches a table; a bad phone number or e-mail address is no such value, because
the order is real all the same (the message is suppressed later, and says why).
"""

import re
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Final

import msgspec
from msgspec import Meta

SPEC_VERSION: Final = "1.0"
ORDER_PROCESSED: Final = "order.processed"
INVOICE_GENERATED: Final = "invoice.generated"
CUSTOMER_UPDATED: Final = "customer.updated"
DATA_SCHEMAS: Final = {
    ORDER_PROCESSED: "urn:postorder:order.processed:1",
    INVOICE_GENERATED: "urn:postorder:invoice.generated:1",
    CUSTOMER_UPDATED: "urn:postorder:customer.updated:1",
}

ID_CHARS_MAX: Final = 128
LINES_MAX: Final = 1000


class Reason(StrEnum):
    """Why a delivery is in quarantine. Stable words: operators filter by them."""

    TOO_LARGE = "too_large"
    UNSUPPORTED_CONTENT_TYPE = "unsupported_content_type"
    UNSUPPORTED_CONTENT_ENCODING = "unsupported_content_encoding"
    UNDECODABLE_PROPERTIES = "undecodable_properties"
    MALFORMED_JSON = "malformed_json"
    DUPLICATE_KEY = "duplicate_key"
    INVALID_ENVELOPE = "invalid_envelope"
    UNKNOWN_TYPE = "unknown_type"
    UNKNOWN_SCHEMA = "unknown_schema"
    INVALID_DATA = "invalid_data"
    DOCUMENT_TOO_LARGE = "document_too_large"
    DOCUMENT_NOT_BASE64 = "document_not_base64"
    DOCUMENT_HOST_REFUSED = "document_host_refused"
    IDENTITY_CONFLICT = "identity_conflict"
    REFUSED_BY_DATABASE = "refused_by_database"
    RETRIES_EXHAUSTED = "retries_exhausted"
    DEFECT = "defect"


# A pattern costs msgspec 0.6 µs for each value; checked together, amounts cost a third, and the published
# schemas still name the rule.
_AMOUNT_PATTERN = r"(0|[1-9][0-9]{0,13})(\.[0-9]{1,4})?"
_amounts = re.compile(rf"(?:{_AMOUNT_PATTERN};)*").fullmatch
Money = Annotated[str, Meta(max_length=19, extra_json_schema={"pattern": f"^{_AMOUNT_PATTERN}$"})]
Currency = Annotated[str, Meta(min_length=3, max_length=3, extra_json_schema={"pattern": "^[A-Z]{3}$"})]
Time = Annotated[datetime, Meta(tz=True)]
Label = Annotated[str, Meta(max_length=200)]
Key = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
EmailText = Annotated[str, Meta(max_length=320)]
PhoneText = Annotated[str, Meta(max_length=64)]
Locale = Annotated[str, Meta(max_length=35)]
# Not a Literal: its errors quote the value, which may be anybody's data.
InOrOut = Annotated[str, Meta(pattern=r"\A(in|out)\Z")]
Country = Annotated[str, Meta(min_length=2, max_length=2, extra_json_schema={"pattern": "^[A-Z]{2}$"})]


def _check_key(name: str, value: str) -> None:
    # A plain check is a tenth of a regular expression's cost, and these fields are in every event.
    if not (value.isascii() and value.isprintable()) or " " in value:
        raise ValueError(f"`{name}` must be printable ASCII without spaces")


def _check_letters(name: str, value: str) -> None:
    if not (value.isascii() and value.isalpha() and value.isupper()):
        raise ValueError(f"`{name}` must be capital letters A to Z")


def _check_amounts(names: str, values: list[str]) -> None:
    text = ";".join(values)
    if not _amounts(text + ";") or text.count(";") != len(values) - 1:
        raise ValueError(f"{names} must be decimal numbers such as 74.40, up to 14 digits and 4 decimals")


class Customer(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Who gets the messages. Contact fields are taken as they come and judged when a message is sent."""

    id: Annotated[str, Meta(max_length=ID_CHARS_MAX)] | None = None
    name: Label | None = None
    email: EmailText | None = None
    phone: PhoneText | None = None
    locale: Locale | None = None
    country: Country | None = None

    def __post_init__(self) -> None:
        if self.country is not None:
            _check_letters("country", self.country)


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """One line of an order. `unit_price` is in the order's currency."""

    sku: Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX)]
    quantity: Annotated[int, Meta(ge=1, le=1_000_000)]
    unit_price: Money
    title: Label | None = None


class OrderProcessed(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Data of `order.processed`: the order's processing is done, and the customer should hear of it."""

    order_id: Key
    currency: Currency
    total: Money
    processed_at: Time
    customer: Customer
    lines: Annotated[list[Line], Meta(max_length=LINES_MAX)]
    number: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    def __post_init__(self) -> None:
        _check_key("order_id", self.order_id)
        _check_letters("currency", self.currency)
        _check_amounts("`total` and `unit_price`", [self.total, *[line.unit_price for line in self.lines]])


class Document(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """The invoice's document: either inline as base64, or at an https URL on an allowed host."""

    content_base64: str | None = None
    url: Annotated[str, Meta(max_length=2000)] | None = None
    media_type: Annotated[str, Meta(pattern=r"\A[a-z]+/[a-z0-9.+-]+\Z", max_length=100)] = "application/pdf"
    filename: Annotated[str, Meta(min_length=1, max_length=100)] | None = None

    def __post_init__(self) -> None:
        if (self.content_base64 is None) == (self.url is None):
            raise ValueError("give exactly one of `content_base64` and `url`")


class InvoiceGenerated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Data of `invoice.generated`. The customer is the order's: an invoice waits for its order.

    Without a document, the mail carries one made from the order.
    """

    invoice_id: Key
    order_id: Key
    currency: Currency
    total: Money
    issued_at: Time
    document: Document | None = None
    number: Annotated[str, Meta(min_length=1, max_length=64)] | None = None

    def __post_init__(self) -> None:
        _check_key("order_id", self.order_id)
        _check_key("invoice_id", self.invoice_id)
        _check_letters("currency", self.currency)
        _check_amounts("`total`", [self.total])


class Consent(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """What a person wants to get, by channel; absent: as was said before."""

    sms: InOrOut | None = None
    email: InOrOut | None = None


class CustomerUpdated(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, gc=False):
    """Data of `customer.updated`: a person's contact details as of `updated_at`, all of them.

    One that is absent is none any more; a consent that is absent stays as it was.
    """

    customer_id: Key
    updated_at: Time
    name: Label | None = None
    email: EmailText | None = None
    phone: PhoneText | None = None
    locale: Locale | None = None
    country: Country | None = None
    consent: Consent | None = None

    def __post_init__(self) -> None:
        _check_key("customer_id", self.customer_id)
        if self.country is not None:
            _check_letters("country", self.country)


# --- envelopes ------------------------------------------------------------------------------------


class Attributes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The CloudEvents attributes but the type. Identity is `source` + `id`; extensions are allowed."""

    specversion: str
    id: Annotated[str, Meta(min_length=1, max_length=256)]
    source: Annotated[str, Meta(min_length=1, max_length=256)]
    time: Time | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None

    def __post_init__(self) -> None:
        if self.specversion != SPEC_VERSION:
            raise ValueError("`specversion` must be 1.0")
        if not (self.id.isprintable() and self.source.isprintable()):
            raise ValueError("`id` and `source` must have no control characters")


class OrderEvent(Attributes, frozen=True, kw_only=True, gc=False, tag_field="type", tag=ORDER_PROCESSED):
    """A structured CloudEvent of type `order.processed`."""

    data: OrderProcessed


class InvoiceEvent(Attributes, frozen=True, kw_only=True, gc=False, tag_field="type", tag=INVOICE_GENERATED):
    """A structured CloudEvent of type `invoice.generated`."""

    data: InvoiceGenerated


class CustomerEvent(Attributes, frozen=True, kw_only=True, gc=False, tag_field="type", tag=CUSTOMER_UPDATED):
    """A structured CloudEvent of type `customer.updated`."""

    data: CustomerUpdated


Event = OrderEvent | InvoiceEvent | CustomerEvent


def type_of(event: Event) -> str:
    """Return an event's type, which is also the routing key to publish it by."""
    return str(type(event).__struct_config__.tag)
