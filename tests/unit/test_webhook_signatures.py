"""Vendors' signatures: the genuine ones pass, and nothing that differs in a byte, an age or its writing."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from vendor_posts import (
    SHOPIFY_BEFORE,
    SHOPIFY_SECRET,
    SQUARE_BEFORE,
    SQUARE_SECRET,
    STRIPE_BEFORE,
    STRIPE_SECRET,
    mac,
    shopify,
    square,
    stripe,
    stripe_header,
)

from pipeline.adapters.webhook_signatures import ShopifySignature, SquareSignature, StripeSignature
from pipeline.clock import SystemClock


class Standing(SystemClock):
    """The time at which this file was read: what is signed below does not age while other tests run."""

    at = datetime.now(UTC)

    def now(self) -> datetime:
        return self.at


URL = "https://hooks.shop.example/in/webhooks/square"
SHOPIFY = ShopifySignature((SHOPIFY_SECRET, SHOPIFY_BEFORE))
STRIPE = StripeSignature((STRIPE_SECRET, STRIPE_BEFORE), Standing())
SQUARE = SquareSignature((SQUARE_SECRET, SQUARE_BEFORE), URL)


def lowered(headers: dict[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def is_genuine(checker: Any, headers: dict[str, str], body: bytes) -> bool:
    return checker.is_genuine(lowered(headers), body)


GENUINE = {
    "shopify": (SHOPIFY, shopify()),
    "shopify, secret before": (SHOPIFY, shopify(secret=SHOPIFY_BEFORE)),
    "stripe": (STRIPE, stripe()),
    "stripe, secret before": (STRIPE, stripe(secrets=(STRIPE_BEFORE,))),
    "stripe, while it rolls": (STRIPE, stripe(secrets=("whsec_unknown", STRIPE_SECRET))),
    "stripe, nearly five minutes": (STRIPE, stripe(age_s=295)),
    "stripe, its clock ahead": (STRIPE, stripe(age_s=-295)),
    "square": (SQUARE, square(url=URL)),
    "square, secret before": (SQUARE, square(url=URL, secret=SQUARE_BEFORE)),
}


@pytest.mark.parametrize("name", GENUINE)
def test_a_genuine_one_is_taken_and_a_changed_body_is_not(name: str) -> None:
    checker, (headers, body) = GENUINE[name]
    assert is_genuine(checker, headers, body)
    assert not is_genuine(checker, headers, body + b" ")
    assert not is_genuine(checker, headers, body[:-1])
    assert not is_genuine(checker, headers, b"")


def written(text: str) -> dict[str, str]:
    raw = base64.b64decode(text)
    return {
        "none": "",
        "truncated": text[:-4],
        "extended": text + "AAAA",
        "capitals": text.upper(),
        "small letters": text.lower(),
        "hexadecimal": raw.hex(),
        "without padding": text.rstrip("="),
        "with a space": text + " ",
        "joined": f"{text}, {text}",
        "not ASCII": "é" * 44,
        "half a character": "\udc80",
    }


@pytest.mark.parametrize("how", written("AAAA"))
@pytest.mark.parametrize("vendor", ["shopify", "square"])
def test_there_is_one_way_to_write_a_signature(vendor: str, how: str) -> None:
    checker, (headers, body) = GENUINE[vendor]
    [(name, right)] = [(n, v) for n, v in headers.items() if n.lower() == checker.header]
    assert is_genuine(checker, headers, body)
    assert not is_genuine(checker, {**headers, name: written(right)[how]}, body)


def test_square_signs_for_the_very_url() -> None:
    for other in (URL + "/", URL.replace("https", "http"), URL.upper(), ""):
        assert not is_genuine(SQUARE, *square(url=other))


HEADER, BODY = stripe()
HEADER = HEADER["Stripe-Signature"]
AT = HEADER.partition(",")[0]
V1 = next(part for part in HEADER.split(",") if part.startswith("v1="))


REFUSED = (
    "",
    AT,
    V1,
    f"{AT},{V1.replace('v1', 'v0')}",  # the scheme is not what Stripe calls safe
    f"{AT},{V1.replace('v1', 'v2')}",
    f"{AT},{V1.upper()}",
    f"{AT},{V1[:-2]}",
    f"{AT},{V1}00",
    f"{AT},{AT},{V1}",
    f"t=1,{AT},{V1}",
    f"t=,{V1}",
    f"t=-1,{V1}",
    f"t=+{AT[2:]},{V1}",
    f"t={AT[2:]}.0,{V1}",
    f"t=٠{AT[2:]},{V1}",
    f"t={'9' * 400},{V1}",
    f"{AT};{V1}",
    f"{AT}," + ",".join(["v1=" + "0" * 64] * 8) + f",{V1}",  # too many to look at
    f"{AT},{V1}" + " " * 5000,
    stripe_header(BODY, "whsec_another"),
    stripe_header(BODY, age_s=305),
    stripe_header(BODY, age_s=-305),
    stripe_header(BODY, age_s=86_400),
)


# Their places are their names: two processes that read this in different seconds have to find the same tests.
@pytest.mark.parametrize("header", REFUSED, ids=map(str, range(len(REFUSED))))
def test_what_stripe_did_not_sign_so_is_refused(header: str) -> None:
    assert is_genuine(STRIPE, {"Stripe-Signature": HEADER}, BODY)
    assert not is_genuine(STRIPE, {"Stripe-Signature": header}, BODY)


def test_stripes_five_minutes_are_of_our_clock() -> None:
    class Later(SystemClock):
        def now(self) -> datetime:
            return datetime.fromtimestamp(int(AT[2:]) + later_s, UTC)

    checker = StripeSignature((STRIPE_SECRET,), Later())
    answers = []
    for later_s in (-301, -300, 300, 301):  # noqa: B007  # Later looks at it
        answers.append(is_genuine(checker, {"Stripe-Signature": HEADER}, BODY))
    assert answers == [False, True, True, False]


@pytest.mark.parametrize("secrets", [(), ("",), ("", "")])
def test_without_a_secret_nothing_is_genuine(secrets: tuple[str, ...]) -> None:
    body = b"{}"
    empty = base64.b64encode(mac("", body)).decode()
    assert not ShopifySignature(secrets).is_genuine({"x-shopify-hmac-sha256": empty}, body)
    assert not ShopifySignature(secrets).is_genuine({"x-shopify-hmac-sha256": ""}, body)
    of_url = base64.b64encode(mac("", URL.encode() + body)).decode()
    assert not SquareSignature(secrets, URL).is_genuine({"x-square-hmacsha256-signature": of_url}, body)
    header = stripe_header(body, "")
    assert not StripeSignature(secrets, SystemClock()).is_genuine({"stripe-signature": header}, body)


def test_vectors_made_by_another_program() -> None:
    """Of `printf '%s' SIGNED | openssl dgst -sha256 -hmac KEY -binary | base64`; Stripe's in hexadecimal."""
    body = b'{"id":820982911946154508,"name":"#9999"}'
    signed = {"x-shopify-hmac-sha256": VECTORS["shopify"]}
    assert ShopifySignature(("hush-hush-hush-hush",)).is_genuine(signed, body)
    signed = {"x-square-hmacsha256-signature": VECTORS["square"]}
    assert SquareSignature(("hush-hush-hush-hush",), "https://a.example/webhooks/square").is_genuine(
        signed, body
    )

    class Then(SystemClock):
        def now(self) -> datetime:
            return datetime.fromtimestamp(1_792_000_000, UTC)

    signed = {"stripe-signature": f"t=1792000000,v1={VECTORS['stripe']}"}
    assert StripeSignature(("hush-hush-hush-hush",), Then()).is_genuine(signed, body)


VECTORS = {
    "shopify": "PokFNKAiZTCaXzfwvdNiGEBCEPqP2bjAJFocAdMXCJU=",
    "square": "m9+cMQywk+IQp2Ul7orfvSvX4FSAORa4kmxBaNUiZrE=",
    "stripe": "fec35d912ed14db6e24d8d7cf9d294b635196ac9ef268e8b4f642bb82a6be3ed",
}
