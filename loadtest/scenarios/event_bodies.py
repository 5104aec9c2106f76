"""The events of a run as bytes. Each order has a customer, a number and an address of its own."""

import time
from base64 import b64encode
from datetime import date

from loadtest.cdnow import Purchase
from loadtest.event_source import order_body
from loadtest.history import invoice_pdf
from loadtest.scenarios.arrivals import Kind
from pipeline.events import INVOICE_GENERATED, ORDER_PROCESSED

NUMBERS_MAX = 10**8
_INVOICE = (
    '{"specversion":"1.0","type":"invoice.generated","source":"/shops/bench","id":"inv-%(order)s",'
    '"time":"%(time)s","data":{"invoice_id":"inv-%(order)s","order_id":"%(order)s","currency":"EUR",'
    '"total":"74.40","issued_at":"2026-11-21T11:20:00+01:00","document":{"media_type":"application/pdf",'
    '"filename":"invoice.pdf","content_base64":"%(pdf)s"}}}'
)
_PHONE_PREFIX = "+49152"
_DOMAIN = "example.com"


class EventBodies:
    """Makes the events of a run. `run`: eight hexadecimal digits, in all of its ids."""

    def __init__(self, run: str) -> None:
        self.run = run
        self._first_phone = int(run, 16) * 4096
        purchase = Purchase(1, 1, date(2026, 11, 21), 2, "74.40")
        self._pdf = b64encode(invoice_pdf(f"inv-{run}", "Ada Example", purchase)).decode()

    def body(
        self, kind: Kind, number: int, at: float, *, with_phone: bool = True, with_address: bool = True
    ) -> bytes:
        """Return an event of order `number`; `at`: its planned moment as UNIX time, which it carries."""
        match kind:
            case Kind.INVOICE:
                text = _INVOICE % {"order": self.order_id(number), "time": moment(at), "pdf": self._pdf}
                return text.encode()
            case Kind.BAD:
                # Cut short: no JSON, and no other one like it.
                return self._order(number, at)[:-30] + f"{self.run}{number}".encode()
            case _:
                return self._order(number, at, with_phone=with_phone, with_address=with_address)

    def _order(self, number: int, at: float, *, with_phone: bool = True, with_address: bool = True) -> bytes:
        body = order_body(self.run, number, moment(at)).replace(b'"US"', b'"DE"')
        phone = b',"phone":"%b"' % self.phone(number).encode() if with_phone else b""
        address = b',"email":"%b"' % self.address(number).encode() if with_address else b""
        body = body.replace(b',"phone":"+14155550123"', phone)
        return body.replace(b',"email":"ada.%d@example.com"' % number, address)

    def order_id(self, number: int) -> str:
        """Return the id of an order."""
        return f"{self.run}-{number}"

    def phone(self, number: int) -> str:
        """Return the number its SMS goes to."""
        return f"{_PHONE_PREFIX}{(self._first_phone + number) % NUMBERS_MAX:08d}"

    def address(self, number: int) -> str:
        """Return the address its mails go to."""
        return f"{self.run}.{number}@{_DOMAIN}"

    def number_of_order(self, order_id: str) -> int | None:
        """Return the number in an order's id; None: of another run."""
        run, _, number = order_id.partition("-")
        return int(number) if run == self.run and number.isdecimal() else None

    def number_of_phone(self, phone: str) -> int | None:
        """Return whose phone number it is; None: nobody's, if the run is no longer than the numbers."""
        digits = phone.removeprefix(_PHONE_PREFIX)
        if len(digits) != len(str(NUMBERS_MAX)) - 1 or not digits.isdecimal():
            return None
        return (int(digits) - self._first_phone) % NUMBERS_MAX

    def number_of_address(self, address: str) -> int | None:
        """Return whose address it is; None: of another run."""
        run, _, rest = address.partition(".")
        number = rest.removesuffix(f"@{_DOMAIN}")
        return int(number) if run == self.run and number.isdecimal() else None


def routing_key(kind: Kind) -> str:
    """Return the key an event is published with."""
    return INVOICE_GENERATED if kind is Kind.INVOICE else ORDER_PROCESSED


def moment(at: float) -> str:
    """Return a UNIX time as events carry it."""
    whole, part = divmod(at, 1)
    return f"{time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(whole))}.{int(part * 1e6):06d}Z"
