"""Bad input of groups D and G: every number and text of the corpus comes to what is written beside it."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import RecipientRefusedError, RejectedError
from pipeline.notifications.sms.phone import PhonePolicy
from pipeline.notifications.sms.segments import measure
from pipeline.notifications.sms.text import TextShaper
from pipeline.settings import SmsSettings
from stack.twilio.sms_segments import segment_count

CORPUS = Path(__file__).parents[1] / "data" / "corpus"
JOINERS = "\u200c\u200d"


def cases(name: str) -> list[Any]:
    read = tomllib.loads((CORPUS / name).read_text(encoding="utf-8"))["case"]
    return [pytest.param(case, id=f"{case['item']}-{place}") for place, case in enumerate(read)]


@pytest.mark.parametrize("case", cases("phones.toml"))
def test_a_number(case: dict[str, Any]) -> None:
    policy = PhonePolicy(SmsSettings().number_types)
    if "e164" in case:
        assert policy.judge(case["raw"], case.get("country")).e164 == case["e164"]
        return
    with pytest.raises(RecipientRefusedError) as caught:
        policy.judge(case["raw"], case.get("country"))
    assert caught.value.code == case["refused"]
    assert not any(digit in str(caught.value) for digit in "0123456789")


@pytest.mark.parametrize("case", cases("sms_texts.toml"))
def test_a_text(case: dict[str, Any]) -> None:
    shaper = TextShaper(segments_max=3, plain_marks=True)
    text = case["text"] * case.get("times", 1) + case.get("then", "")
    if "refused" in case:
        with pytest.raises(RejectedError) as caught:
            shaper.shape(text)
        assert caught.value.code == case["refused"]
        return
    sent = shaper.shape(text)
    assert measure(sent).segments == segment_count(sent) == case["segments"]
    assert all(character.isprintable() or character in JOINERS for character in sent)
    if case.get("keeps"):
        assert sent == text
    elif "ends" in case:
        assert sent.endswith(case["ends"])
        assert text.startswith(sent.rstrip("….").rstrip())
    else:
        assert sent == case["sent"]


def test_every_item_of_the_groups_is_there() -> None:
    """262, sender ids, is in the tests of settings: there is one sender, and it is not data."""
    for name, items in (("phones.toml", range(141, 177)), ("sms_texts.toml", range(247, 262))):
        found = {param.values[0]["item"] for param in cases(name)}
        assert found == set(items)
