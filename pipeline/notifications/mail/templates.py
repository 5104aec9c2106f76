"""The texts of messages, from the files in message_templates/. Event data is data here, never a template."""

from typing import Any

import msgspec
from jinja2 import PackageLoader, StrictUndefined, select_autoescape
from jinja2.sandbox import ImmutableSandboxedEnvironment

from pipeline.notifications.notification import Attachment, Email, Sms
from pipeline.storage.outbox import Claim, Kind

_NAME_CHARS_MAX = 60
_LINES_SHOWN_MAX = 50


class _Line(msgspec.Struct):
    sku: str
    quantity: int
    unit_price: str
    title: str | None = None


_decode_lines = msgspec.json.Decoder(list[_Line]).decode


class Templates:
    """Renders claims into messages. Loading checks that every template is there and parses."""

    def __init__(self, *, shop: str) -> None:
        self._shop = shop
        environment = ImmutableSandboxedEnvironment(
            loader=PackageLoader("pipeline.notifications.mail", "message_templates"),
            autoescape=select_autoescape(["html"]),
            undefined=StrictUndefined,
            keep_trailing_newline=False,
        )
        self._templates = {name: environment.get_template(name) for name in environment.list_templates()}

    def sms(self, claim: Claim, to: str) -> Sms:
        """Render an SMS."""
        body = self._render("order_sms.txt", self._values(claim))
        return Sms(effect_id=claim.effect_id.hex, to=to, body=one_line(body))

    def email(self, claim: Claim, to: str, attachments: tuple[Attachment, ...]) -> Email:
        """Render a mail in text and HTML."""
        values = self._values(claim)
        values["invoices"] = [printable(invoice.number or invoice.invoice_id) for invoice in claim.invoices]
        stem = "invoice_email" if claim.kind is Kind.INVOICE_EMAIL else "order_email"
        return Email(
            effect_id=claim.effect_id.hex,
            to=to,
            subject=one_line(self._render(f"{stem}.subject.txt", values)),
            text=self._render(f"{stem}.txt", values),
            html=self._render(f"{stem}.html", values),
            attachments=attachments,
        )

    def _render(self, name: str, values: dict[str, Any]) -> str:
        return self._templates[name].render(values)

    def _values(self, claim: Claim) -> dict[str, Any]:
        lines = _decode_lines(claim.lines)
        return {
            "shop": self._shop,
            "name": one_line(claim.customer_name or "")[:_NAME_CHARS_MAX],
            "number": printable(claim.number or claim.order_id),
            "total": money(claim.total, claim.currency),
            "lines": [
                {
                    "title": printable(line.title or line.sku),
                    "quantity": line.quantity,
                    "unit_price": money(line.unit_price, claim.currency),
                }
                for line in lines[:_LINES_SHOWN_MAX]
            ],
        }


def printable(text: str) -> str:
    """Return a text without control and format characters; upstream's data may hold any."""
    return "".join(c for c in text if c.isprintable())


def one_line(text: str) -> str:
    """Return a text as one line of printable characters."""
    return " ".join(filter(None, map(printable, text.split())))


def money(amount: str, currency: str) -> str:
    """Return an amount with its currency: at least two decimals, no more than are needed."""
    whole, _, fraction = amount.partition(".")
    return f"{whole}.{fraction.rstrip('0'):0<2} {currency}"
