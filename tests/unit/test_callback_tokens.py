"""Seals, unsubscribe tokens and signatures: what is ours is accepted, and nothing else."""

import base64
import hmac
import json
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlsplit
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.notifications.callbacks.seals import Sealed, Seals
from pipeline.notifications.callbacks.twilio_signature import TwilioSignatures
from pipeline.notifications.callbacks.unsubscribing import UnsubscribeTokens
from pipeline.notifications.callbacks.webhook_signature import WebhookSignatures

SECRET, BEFORE, FOREIGN = "s" * 32, "b" * 32, "f" * 32
KEY = UUID("11111111-2222-4333-8444-555555555555")
VECTORS = json.loads((Path(__file__).parents[1] / "data/twilio/signature_vectors.json").read_text())[
    "vectors"
]
SLOTS = st.integers(0, 4095)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(slot=SLOTS, effect_id=st.uuids(), attempt=st.integers(1, 255))
def test_a_seal_says_what_was_sealed(slot: int, effect_id: UUID, attempt: int) -> None:
    seal = Seals([SECRET]).seal(slot, effect_id, attempt)
    assert len(seal) == 48
    assert set(seal) <= set(ALPHABET)
    assert Seals([SECRET]).open(seal) == Sealed(slot, effect_id, attempt)


def test_more_attempts_than_a_byte_holds_are_sealed_as_its_largest() -> None:
    assert Seals([SECRET]).open(Seals([SECRET]).seal(1, KEY, 300)) == Sealed(1, KEY, 255)


@given(slot=SLOTS, effect_id=st.uuids(), place=st.integers(0, 47), other=st.sampled_from(ALPHABET))
def test_a_seal_changed_anywhere_is_none(slot: int, effect_id: UUID, place: int, other: str) -> None:
    seal = Seals([SECRET]).seal(slot, effect_id, 1)
    changed = seal[:place] + other + seal[place + 1 :]
    assert (Seals([SECRET]).open(changed) is not None) == (changed == seal)


@given(text=st.text(max_size=60))
def test_any_text_is_no_seal(text: str) -> None:
    assert Seals([SECRET]).open(text) is None
    assert UnsubscribeTokens([SECRET]).open(text) is None


def test_secrets_are_changed_one_after_the_other() -> None:
    old = Seals([BEFORE]).seal(1, KEY, 1)
    assert Seals([SECRET, BEFORE]).open(old) is not None
    assert Seals([SECRET, ""]).open(old) is None
    assert Seals([BEFORE]).open(Seals([SECRET, BEFORE]).seal(1, KEY, 1)) is None
    assert Seals([FOREIGN]).open(old) is None


def test_a_token_of_one_kind_is_none_of_another() -> None:
    token = UnsubscribeTokens([SECRET]).token(KEY)
    assert UnsubscribeTokens([SECRET]).open(token) == KEY
    assert len(token) == 44
    assert Seals([SECRET]).open(token) is None
    assert UnsubscribeTokens([SECRET]).open(Seals([SECRET]).seal(1, KEY, 1)) is None


@pytest.mark.parametrize("seal", ["", "=" * 48, "A" * 48, "ä" * 48, "A" * 47, "A" * 49, "+" * 48, "\n" * 48])
def test_what_only_looks_like_a_seal_is_none(seal: str) -> None:
    assert Seals([SECRET]).open(seal) is None


def test_there_is_one_way_to_write_a_seal() -> None:
    """The decoder takes the letters of plain base64 as well, and skips what is none of any."""
    seals = (Seals([SECRET]).seal(1, UUID(int=number), 1) for number in range(1000))
    seal = next(seal for seal in seals if "-" in seal and "_" in seal)
    for other in (seal.replace("-", "+"), seal.replace("_", "/"), seal[:-4] + "====", seal[:-1] + "!"):
        assert Seals([SECRET]).open(other) is None


# --- Twilio -------------------------------------------------------------------------------------------------


def fields_of(vector: dict) -> list[tuple[str, str]]:
    pairs = vector["params"].items()
    return [(name, one) for name, value in pairs for one in (value if isinstance(value, list) else [value])]


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
@pytest.mark.parametrize("port", ["as signed", "left out"])
def test_twilios_own_vectors(vector: dict, port: str) -> None:
    """`port`: of the base URL in the settings; Twilio signs with the port or without it."""
    parts = urlsplit(vector["signed_url"])
    host = parts.netloc if port == "as signed" else parts.hostname
    if port == "left out" and parts.port not in (None, 443, 80):
        pytest.skip("a port that is not the scheme's is part of the base URL")
    target = vector["signed_url"].removeprefix(f"{parts.scheme}://{parts.netloc}")
    signatures = TwilioSignatures(base_url=f"{parts.scheme}://{host}", tokens=[vector["auth_token"]])
    signature = vector["signature"].encode()
    if "body" in vector:
        body = vector["body"].encode()
        assert signatures.is_of_body(target, body, signature)
        assert not signatures.is_of_body(target, body + b" ", signature)
    else:
        assert signatures.is_of_form(target, fields_of(vector), signature)
        assert not signatures.is_of_form(target, [*fields_of(vector), ("More", "")], signature)
    other = TwilioSignatures(base_url=f"{parts.scheme}://{host}", tokens=["54321"])
    assert not other.is_of_form(target, fields_of(vector), signature)


def test_without_a_token_nothing_is_genuine() -> None:
    empty = base64.b64encode(hmac.digest(b"", b"https://a.example/x", "sha1"))
    assert not TwilioSignatures(base_url="https://a.example", tokens=["", ""]).is_of_form("/x", [], empty)


def test_sha256_only_when_the_settings_say_so() -> None:
    signed = base64.b64encode(hmac.digest(b"t", b"https://a.example/x", "sha256"))
    for algorithm, expected in (("sha1", False), ("sha256", True)):
        signatures = TwilioSignatures(base_url="https://a.example", tokens=["t"], algorithm=algorithm)
        assert signatures.is_of_form("/x", [], signed) == expected


# --- Standard Webhooks --------------------------------------------------------------------------------------


class Clock:
    """A clock that stands at a time."""

    def __init__(self, unix_s: int) -> None:
        self._now = datetime.fromtimestamp(unix_s, UTC)

    def now(self) -> datetime:
        return self._now

    def monotonic(self) -> float:
        return 0.0

    async def sleep(self, delay_s: float) -> None:
        raise AssertionError(delay_s)


# The example of the specification's own libraries (standardwebhooks, MIT).
EXAMPLE = {
    "webhook_id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
    "timestamp": "1614265330",
    "signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    "body": b'{"test": 2432232314}',
}
EXAMPLE_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.mark.parametrize(
    ("late_s", "expected"), [(0, True), (299, True), (-299, True), (301, False), (-301, False)]
)
def test_the_schemes_own_example_counts_for_five_minutes(late_s: int, *, expected: bool) -> None:
    signatures = WebhookSignatures([EXAMPLE_SECRET], Clock(1614265330 + late_s))
    assert signatures.is_genuine(**EXAMPLE) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"body": b'{"test": 2432232315}'},
        {"webhook_id": "msg_other"},
        {"webhook_id": ""},
        {"timestamp": "1614265331"},
        {"timestamp": "１６１４２６５３３０"},
        {"timestamp": "-1"},
        {"timestamp": ""},
        {"signature": ""},
        {"signature": "g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"signature": "v1a,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
        {"signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE"},
        {"signature": " ".join(["v1,AAAA"] * 8 + ["v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="])},
    ],
)
def test_what_is_changed_is_not_genuine(change: dict) -> None:
    assert not WebhookSignatures([EXAMPLE_SECRET], Clock(1614265330)).is_genuine(**{**EXAMPLE, **change})


def test_both_secrets_count_while_one_is_being_changed() -> None:
    assert WebhookSignatures(["another text", EXAMPLE_SECRET], Clock(1614265330)).is_genuine(**EXAMPLE)
    assert not WebhookSignatures(["", ""], Clock(1614265330)).is_genuine(**EXAMPLE)
