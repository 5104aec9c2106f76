"""Our reading of the numbering plans says what the library says, for every calling code and kind."""

import random

import phonenumbers
import pytest
from phonenumbers import PhoneNumberFormat, PhoneNumberType, ValidationResult

from pipeline.errors import RecipientRefusedError
from pipeline.notifications.sms.phone import PhonePolicy, read_number

KINDS = {getattr(PhoneNumberType, name): name.lower() for name in vars(PhoneNumberType) if name.isupper()}
GLOBAL = phonenumbers.REGION_CODE_FOR_NON_GEO_ENTITY


def by_the_library(text: str) -> tuple[str, str, str] | None:
    try:
        number = phonenumbers.parse(text)
    except phonenumbers.NumberParseException:
        return None
    if phonenumbers.is_possible_number_with_reason(number) != ValidationResult.IS_POSSIBLE:
        return None
    region, kind = phonenumbers.region_code_for_number(number), KINDS[phonenumbers.number_type(number)]
    if region == GLOBAL:
        region, kind = "", "unknown" if kind == "unknown" else "global"
    return phonenumbers.format_number(number, PhoneNumberFormat.E164), region or "", kind


def by_us(text: str) -> tuple[str, str, str] | None:
    try:
        return tuple(read_number(text, None))
    except RecipientRefusedError:
        return None


def samples(rng: random.Random) -> list[str]:
    """Examples of each region and kind, as they are and with other last digits, and any digits at all."""
    texts = []
    for code, regions in phonenumbers.COUNTRY_CODE_TO_REGION_CODE.items():
        for region in regions:
            for kind in KINDS:
                number = (
                    phonenumbers.example_number_for_non_geo_entity(code)
                    if region == GLOBAL
                    else phonenumbers.example_number_for_type(region, kind)
                )
                if number is not None:
                    text = phonenumbers.format_number(number, PhoneNumberFormat.E164)
                    texts += [text, f"{text[:-3]}{rng.randrange(1000):03d}"]
        texts += [f"+{code}{rng.randrange(10 ** rng.randrange(4, 12))}" for _ in range(2)]
    return texts


def test_the_library_says_the_same() -> None:
    texts = [text for text in samples(random.Random(1)) if 8 <= len(text) <= 16]
    assert len(texts) > 2500
    assert {kind for found in map(by_us, texts) if found for kind in found[2:]} == {*KINDS.values(), "global"}
    assert [text for text in texts if by_us(text) != by_the_library(text)] == []


@pytest.mark.parametrize("allowed", [("fixed_line",), ("mobile", "fixed_line")])
def test_the_operator_decides_which_kinds_are_texted(allowed: tuple) -> None:
    policy = PhonePolicy(allowed)
    assert policy.judge("+49 30 901820", None).kind == "fixed_line"
    if "mobile" not in allowed:
        with pytest.raises(RecipientRefusedError, match="phone_mobile"):
            policy.judge("+49 151 23456789", None)


def test_a_number_says_where_it_is_from() -> None:
    assert read_number("+1 613 555 0123", None).region == "CA"
    assert read_number("8 701 111 22 33", "KZ").region == "KZ"
    assert read_number("8 (912) 345-67-89", "KZ").region == "RU"
