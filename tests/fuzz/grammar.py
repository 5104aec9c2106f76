"""Deliveries grown from valid events: their structure is changed first, their spelling next, bytes last."""

import json
from base64 import b64encode
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType
from typing import Any, NamedTuple

CANARY = "canary-7f3a"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
JSON = "application/json"
PREFIXES = ("ce-", "cloudEvents:", "cloudEvents_")


class Case(NamedTuple):
    """What a fuzzed delivery is made of."""

    body: bytes
    content_type: str | None = STRUCTURED
    routing_key: str = "order.processed"
    headers: Mapping[str, Any] = MappingProxyType({})


class Raw(str):
    """A piece of JSON, or of what looks like it, written as it is."""

    __slots__ = ()


class Pairs(list[tuple[str, Any]]):
    """An object whose keys may be there twice."""


TOKENS = (
    "-0", "0.0", "1e3", "1E400", "-1e-400", "9223372036854775808", "18446744073709551616", "9" * 400,
    "01", "+1", "0x10", "1_000", ".5", "1.", "NaN", "-Infinity", "tru", "null", "true", "''", "/**/1", "1.0",
)  # fmt: skip
TEXTS = (
    "", " ", "0", "1.0", "74.40", "1,2", "-1", "1e3", "\uff11", "99999999999999.9999", "eur", "\u0415UR",
    "order.processed", "invoice.generated", "customer.updated", "in", "out",
    "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-12:00",
    "2026-02-30T00:00:00Z", "2026-01-01T00:00:00", "2016-12-31T23:59:60Z", "\u202e", "\u0301" * 9, "\uffff",
    "\U0001f469\u200d\U0001f469", '":', '" :', '\\":', "\\u0000", "\x7f", "\x85", "a\nb", "\0", "AA==", "%%%",
    "https://docs.example/a", "file:///etc/passwd", "urn:postorder:order.processed:1", "__proto__",
)  # fmt: skip
KEYS = (
    "specversion", "type", "id", "source", "time", "datacontenttype", "dataschema", "data", "data_base64",
    "customer_id", "updated_at", "consent", "sms",
    "order_id", "total", "Total", "t\u043etal", "customer", "lines", "document", "url", "", "\0", "x",
)  # fmt: skip
ESCAPES = (
    "\\ud800",
    "\\udc00",
    "\\ud83d\\ude00",
    "\\u0000",
    "\\u0022:",
    '\\"\\u003a',
    "\\x41",
    "\\u12",
    "\\/",
)
SPACES = ("", "", "", " ", "\n", "\t\r\n ", "\x0b", "\u00a0")


def order_data(random: Random, order_id: str) -> dict[str, Any]:
    customer = {"id": "c-1", "name": CANARY, "email": f"{CANARY}@example.com", "phone": CANARY}
    line = {"sku": "LP-77", "title": CANARY, "quantity": 2, "unit_price": "29.95"}
    data = {"order_id": order_id, "currency": "EUR", "total": "74.40", "customer": customer}
    return {**data, "processed_at": "2026-11-21T11:15:00+01:00", "lines": [line] * random.randrange(4)}


def invoice_data(random: Random, order_id: str) -> dict[str, Any]:
    document = random.choice(({"content_base64": "JVBERi0x"}, {"url": "https://docs.example/a"}, None))
    data = {"invoice_id": f"i-{order_id}", "order_id": order_id, "currency": "EUR", "total": "74.40"}
    return {**data, "issued_at": "2026-11-21T11:15:00+01:00", "document": document}


def customer_data(random: Random, customer_id: str) -> dict[str, Any]:
    data = {"customer_id": customer_id, "updated_at": "2026-11-21T11:15:00+01:00", "name": CANARY}
    consent = {"sms": random.choice(("in", "out")), "email": random.choice(("in", "out", None))}
    return {**data, "email": f"{CANARY}@example.com", "phone": CANARY, "consent": consent}


MAKERS = {
    "order.processed": order_data,
    "invoice.generated": invoice_data,
    "customer.updated": customer_data,
}


class Grower:
    """Grows cases from a source of random numbers: the same seed, the same cases."""

    def __init__(self, random: Random) -> None:
        self._random = random
        self._modes: tuple[Callable[[], Case], ...] = (
            self._structured, self._structured, self._batch, self._binary, self._plain, self._base64,
        )  # fmt: skip

    def case(self) -> Case:
        case = self._random.choice(self._modes)()
        if self._random.random() < 0.3:
            case = case._replace(body=self.damaged(case.body))
        if self._random.random() < 0.02:
            case = case._replace(content_type=self._random.choice((None, "", "text/xml", BATCH, JSON)))
        return case

    # --- modes ----------------------------------------------------------------------------------------

    def _event(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return attributes and data."""
        number = self._random.randrange(10**6)
        kind = self._random.choice(tuple(MAKERS))
        attributes = {"specversion": "1.0", "type": kind, "source": "/fuzz", "id": f"e-{number}"}
        if self._random.random() < 0.5:
            attributes["time"] = "2026-11-21T10:15:00Z"
        return attributes, MAKERS[kind](self._random, f"o-{number}")

    def _text(self) -> str:
        attributes, data = self._event()
        return self.written(self._changed({**attributes, "data": data}))

    def _structured(self) -> Case:
        content_type = self._random.choice((STRUCTURED, STRUCTURED, JSON, None))
        return Case(_utf8(self._text()), content_type)

    def _batch(self) -> Case:
        members = [self._text() for _ in range(self._random.randrange(5))]
        return Case(_utf8(f"[{','.join(members)}]"), BATCH)

    def _base64(self) -> Case:
        attributes, data = self._event()
        inner = b64encode(_utf8(self.written(self._changed(data)))).decode()
        if self._random.random() < 0.2:
            inner = inner[: self._random.randrange(len(inner) + 1)] + self._random.choice(("", "=", "\u00e9"))
        return Case(_utf8(self.written(self._changed({**attributes, "data_base64": inner}))))

    def _binary(self) -> Case:
        attributes, data = self._event()
        headers: dict[str, Any] = {}
        for name, value in attributes.items():
            if self._random.random() < 0.97:
                headers[self._random.choice(PREFIXES) + name] = self._header(value)
        if self._random.random() < 0.2:
            headers["ce-" + self._random.choice(KEYS)] = self._header("x")
        return Case(_utf8(self.written(self._changed(data))), JSON, headers=headers)

    def _plain(self) -> Case:
        attributes, data = self._event()
        key = self._random.choice((attributes["type"], attributes["type"] + ".eu", "order.processed", "x"))
        headers = {"idempotency-key": self._header("k-1")} if self._random.random() < 0.3 else {}
        return Case(_utf8(self.written(self._changed(data))), JSON, key, headers)

    def _header(self, value: str) -> Any:
        if self._random.random() < 0.95:
            return value
        return self._random.choice((None, 7, 1.5, b"\xff", value.encode(), "", *TEXTS, value * 400))

    # --- structure ------------------------------------------------------------------------------------

    def _changed(self, value: Any) -> Any:
        """Return a tree with none to three places changed."""
        tree = _tree(value)
        for _ in range(self._random.choice((0, 1, 1, 2, 3))):
            self._change_one(tree)
        return tree

    def _change_one(self, tree: Pairs) -> None:
        node: Any = tree
        while True:
            at = self._random.randrange(len(node)) if node else None
            inner = None if at is None else node[at][1] if isinstance(node, Pairs) else node[at]
            if not isinstance(inner, list) or not inner or self._random.random() < 0.3:
                break
            node = inner
        if isinstance(node, Pairs):
            self._change_pair(node, at)
        elif at is not None:
            node[at] = self._value(inner)

    def _change_pair(self, node: Pairs, at: int | None) -> None:
        random = self._random
        if at is None or random.random() < 0.2:
            node.insert(random.randrange(len(node) + 1), (random.choice(KEYS), self._value("")))
            return
        key, value = node[at]
        match random.randrange(6):
            case 0:
                del node[at]
            case 1:
                node.insert(
                    random.randrange(len(node) + 1), (key, random.choice((value, self._value(value))))
                )
            case 2:
                node[at] = random.choice((random.choice(KEYS), key.upper(), key + "\0", key * 50)), value
            case _:
                node[at] = key, self._value(value)

    def _value(self, old: Any) -> Any:
        random = self._random
        if random.random() < 0.4:
            return random.choice(TEXTS)
        return random.choice(
            (self._token, self._constant, self._deep, self._long, self._escaped, self._wrapped)
        )(old)

    def _token(self, _old: Any) -> Raw:
        return Raw(self._random.choice(TOKENS))

    def _constant(self, _old: Any) -> Any:
        return self._random.choice((None, True, False, 0, -1, 1, 2**31, 10**6, 0.5, [], Pairs()))

    def _deep(self, _old: Any) -> Raw:
        # Around a thousand, where readers give up, each depth may be the one that is between two of them.
        depth = self._random.choice((2, 30, 400, self._random.randrange(900, 1010), 2000))
        opening, closing = self._random.choice((("[", "]"), ('{"a":', "}")))
        return Raw(opening * depth + "1" + closing * depth)

    def _long(self, _old: Any) -> str:
        letter = self._random.choice("ax\u00e9\U0001f600")
        return letter * self._random.choice((1, 64, 128, 129, 200, 256, 257, 5000))

    def _escaped(self, _old: Any) -> Raw:
        return Raw('"' + CANARY + self._random.choice(ESCAPES) + '"')

    def _wrapped(self, old: Any) -> Any:
        times = self._random.choice((1, 2, 1001))
        return [old] * times if isinstance(old, str | int) else Pairs([("a", old)])

    # --- spelling -------------------------------------------------------------------------------------

    def written(self, value: Any) -> str:
        """Write a tree as JSON, spelled in an unusual but valid way now and then."""
        odd = self._random.random() < 0.4
        return self._write(value, odd=odd)

    def _write(self, value: Any, *, odd: bool) -> str:
        match value:
            case Raw():
                return str(value)
            case str():
                return self._write_text(value, odd=odd)
            case Pairs():
                space = self._space if odd else str
                keys = [space() + self._write_text(key, odd=odd) + space() for key, _ in value]
                items = [space() + self._write(item, odd=odd) for _, item in value]
                return "{" + ",".join(map(":".join, zip(keys, items, strict=True))) + "}"
            case list():
                return "[" + ",".join(self._write(item, odd=odd) for item in value) + "]"
        return json.dumps(value)

    def _write_text(self, text: str, *, odd: bool) -> str:
        plain = json.dumps(text, ensure_ascii=self._random.random() < 0.5)
        if not odd or not text or self._random.random() < 0.7:
            return plain
        at = self._random.randrange(len(text))
        escape = "".join(f"\\u{unit:04x}" for unit in _utf16(text[at]))
        return (
            plain[:-1] + escape + '"'
            if self._random.random() < 0.1
            else (json.dumps(text[:at])[:-1] + escape + json.dumps(text[at + 1 :])[1:])
        )

    def _space(self) -> str:
        return self._random.choice(SPACES[:6] if self._random.random() < 0.98 else SPACES)

    # --- bytes ----------------------------------------------------------------------------------------

    def damaged(self, body: bytes) -> bytes:
        """Return a body with bytes flipped, cut, put in, doubled, or moved."""
        random = self._random
        for _ in range(random.choice((1, 1, 2, 8))):
            at = random.randrange(len(body) + 1)
            end = min(len(body), at + random.choice((0, 1, 2, 20, 200)))
            match random.randrange(5):
                case 0:
                    body = body[:at] + bytes([random.randrange(256)]) + body[at + 1 :]
                case 1:
                    body = body[:at]
                case 2:
                    body = (
                        body[:at]
                        + random.choice((b"\0", b"\xff", b"\xc0\xaf", b"\xed\xa0\xbd", b'"', b"}"))
                        + body[at:]
                    )
                case 3:
                    body = body[:end] + body[at:]
                case _:
                    body = body[:at] + body[end:]
        return body


def _tree(value: Any) -> Any:
    match value:
        case dict():
            return Pairs((key, _tree(item)) for key, item in value.items())
        case list():
            return [_tree(item) for item in value]
    return value


def _utf16(character: str) -> list[int]:
    units = character.encode("utf-16-be", "surrogatepass")
    return [int.from_bytes(units[at : at + 2], "big") for at in range(0, len(units), 2)]


def _utf8(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")
