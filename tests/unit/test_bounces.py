"""What is read from bounces: those of common servers, what only looks like one, and hostile input."""

import random
import time
import tomllib
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.notifications.mail.bounce_codes import is_mailbox_gone
from pipeline.notifications.mail.bounces import READ_BYTES_MAX, read_bounces

CORPUS = Path(__file__).parents[1] / "data/corpus/bounces.toml"
CASES = tomllib.loads(CORPUS.read_text(encoding="utf-8"))["case"]
ID = UUID("00112233445566778899aabbccddee02")
OURS = frozenset({"shop.example"})


def mail_of(case: dict[str, Any]) -> bytes:
    return case["mail"].removeprefix("\n").replace("@ID@", ID.hex).encode()


@pytest.mark.parametrize("ending", ["\n", "\r\n"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case["name"])
def test_bounces_of_common_servers(case: dict[str, Any], ending: str) -> None:
    found = read_bounces(mail_of(case).replace(b"\n", ending.encode()), OURS)
    assert [
        {"addresses": sorted(one.addresses), "action": one.action, "status": one.status} for one in found
    ] == [{**expected, "addresses": sorted(expected["addresses"])} for expected in case["expect"]]
    assert {one.effect_id for one in found} <= {ID}


@pytest.mark.parametrize(
    ("code", "gone"),
    [
        *(("550", True), ("551", True), ("553", True), ("552", False), ("554", False), ("450", False)),
        *(("5.1.1", True), ("550 5.1.1", True), ("554 5.1.1", True), ("5.2.1", True), ("550-5.1.10", True)),
        # About us, the mail, or for a time.
        *(("550 5.7.1", False), ("5.7.26", False), ("5.2.2", False), ("552 5.3.4", False), ("5.1.8", False)),
        *(("4.2.2", False), ("2.1.5", False), ("", False), ("21610", False), ("550 x", False)),
    ],
)
def test_which_codes_take_an_address_off(code: str, gone: bool) -> None:  # noqa: FBT001
    assert is_mailbox_gone(code) is gone


def nested(depth: int) -> bytes:
    opening = "".join(
        f'Content-Type: multipart/mixed; boundary="b{level}"\n\n--b{level}\n' for level in range(depth)
    )
    return opening.encode() + b"X-Failed-Recipients: a@example.com\n\nMessage-ID: <%b@shop.example>\n" % (
        ID.hex.encode()
    )


HOSTILE = {
    "nested": nested(10_000),
    "nested as deep as allowed": nested(20) + b"--b19\n" * 100_000,
    "nested, and many lines": nested(200) + b"x\n" * 120_000,
    "one long line": b"Subject: " + b"x" * 1_000_000,
    "many headers": b"X-A: b\n" * 120_000,
    "many recipients": b"X-Failed-Recipients: " + b"a@b.c, " * 140_000,
    "many statuses": b"X-Failed-Recipients: a@b.c\n\n" + b"5.1." * 250_000,
    "many ids": b"X-Failed-Recipients: a@b.c\n\n" + b"<0123456789abcdef" * 60_000,
    "many blocks": b'Content-Type: multipart/report; boundary="b"\n\n--b\n'
    b"Content-Type: message/delivery-status\n\n"
    + b"Final-Recipient: rfc822; a@b.c\nAction: failed\n\n"
    * 20_000,
    "many parts": b'Content-Type: multipart/mixed; boundary="b"\n\n' + b"--b\n\nx\n" * 120_000,
    "many spaces": b"Content-Type: multipart/report;" + b" " * 900_000 + b'boundary="b"\n\n',
    "nulls": b"\0" * 1_000_000,
    "a broken encoding": b"Subject: =?utf-8?b?" + b"=" * 500_000 + b"\n\n\xff\xfe",
    "folded without end": b"Action: failed\n" + b" \n" * 400_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_input_is_read_in_bounded_time(name: str) -> None:
    raw = HOSTILE[name]
    began = time.process_time()
    assert len(read_bounces(raw, OURS)) <= 20
    assert time.process_time() - began < 1.5  # 0.4 on a quiet machine


@pytest.mark.parametrize(("levels", "found"), [(19, 1), (20, 0)])
def test_a_mail_in_too_many_mails_is_not_read(levels: int, found: int) -> None:
    raw = mail_of(CASES[0]).replace(b"\nHello\n", b"\n" + nested(levels))
    assert len(read_bounces(raw, OURS)) == found


@pytest.mark.parametrize(("parts", "found"), [(900, 1), (1100, 0)])
def test_a_mail_of_too_many_parts_is_not_read(parts: int, found: int) -> None:
    raw = mail_of(CASES[0]).replace(b"\n--B1/mx.example.net\n", b"\n--B1/mx.example.net\n\nx" * parts, 1)
    raw += b"\n--B1/mx.example.net\n" + mail_of(CASES[0])
    assert len(read_bounces(raw, OURS)) == found


def test_of_a_large_mail_the_beginning_is_read() -> None:
    raw = mail_of(CASES[0])
    assert len(read_bounces(raw + b"x" * 10_000_000, OURS)) == 1
    assert read_bounces(b"X-Long: " + b"x" * READ_BYTES_MAX + b"\n" + raw, OURS) == ()


@given(st.data())
def test_a_damaged_bounce_names_no_other_mail_and_raises_nothing(data) -> None:
    raw = bytearray(mail_of(data.draw(st.sampled_from(CASES))))
    rng = random.Random(data.draw(st.integers(0, 2**32)))  # no secret
    for _ in range(data.draw(st.integers(1, 30))):
        place = rng.randrange(len(raw) + 1)
        raw[place : place + rng.randrange(4)] = rng.randbytes(rng.randrange(4))
    for bounce in read_bounces(bytes(raw), OURS):
        assert bounce.effect_id.hex in bytes(raw).lower().decode("latin-1")


@given(st.binary(max_size=3000))
def test_noise_is_no_bounce(noise: bytes) -> None:
    assert read_bounces(noise, OURS) == ()
