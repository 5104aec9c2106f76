"""What is wrong with the text of an SMS: without the order's number, or longer than is sent."""

import unicodedata
from collections.abc import Iterator

from pipeline.errors import RejectedError
from pipeline.notifications.mail.samples import NUMBER_CHARS_MAX, sample_claim, sample_variants
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.sms.segments import is_gsm7, measure
from pipeline.notifications.sms.text import TextShaper
from pipeline.settings import SmsSettings
from pipeline.storage.outbox import Kind

_TO = "+14155550123"


def sms_problems(templates: Templates, language: str) -> Iterator[str]:
    """Yield what is wrong. Raises RejectedError when the template fails."""
    where = f"template {language}/{Kind.ORDER_SMS}.txt"
    for what, claim in sample_variants(Kind.ORDER_SMS, language).items():
        text = templates.sms(claim, _TO).body
        if not text or not _can_be_shown(text):
            yield f"{where}: is empty (an order that is {what})"
            return
        if (claim.number or "") not in text:
            # Two messages of one customer are told apart by it, and so is one whose outcome is not known.
            yield f"{where}: lacks {{{{ number }}}} (an order that is {what})"
            return


def sms_misfits(templates: Templates, settings: SmsSettings) -> Iterator[str]:
    """Yield which texts are shortened for a long number, or lose it. Raises RejectedError as above.

    Not for the start of the pipeline: who allows one segment may not write in every language there is.
    """
    shaper = TextShaper(segments_max=settings.segments_max, plain_marks=settings.plain_marks)
    for language in templates.languages:
        where = f"template {language}/{Kind.ORDER_SMS}.txt"
        for what, claim in sample_variants(Kind.ORDER_SMS, language).items():
            if (claim.number or "") not in shaper.shape(templates.sms(claim, _TO).body):
                yield (
                    f"{where}: {{{{ number }}}} does not fit into sms.segments_max = {settings.segments_max} "
                    f"(an order that is {what}): write it before what may be long"
                )
                break
        number = "1" * NUMBER_CHARS_MAX
        text = templates.sms(sample_claim(Kind.ORDER_SMS, language, number=number), _TO).body
        segments = measure(_plain(text)).segments
        if segments > settings.segments_max:
            yield (
                f"{where}: takes {segments} segments with a number of {NUMBER_CHARS_MAX} characters, and "
                f"sms.segments_max is {settings.segments_max}: shorten it, or notifications.public_name"
            )


def sms_notes(templates: Templates) -> Iterator[str]:
    """Yield which letters keep a text in Latin script from the 7-bit alphabet, and so cost segments."""
    for language in templates.languages:
        claim = sample_claim(Kind.ORDER_SMS, language, name="Ada", currency="EUR")
        text = _plain(templates.sms(claim, _TO).body)
        costly = sorted({letter for letter in text if not is_gsm7(letter)})
        if costly and all(unicodedata.name(letter, "").startswith("LATIN") for letter in costly):
            yield (
                f"{language}/{Kind.ORDER_SMS}.txt: {' '.join(costly)} is not in the 7-bit alphabet of SMS, "
                f"so a segment holds 70 characters instead of 160"
            )


def _can_be_shown(text: str) -> bool:
    try:
        return bool(_plain(text))
    except RejectedError:
        return False


def _plain(text: str) -> str:
    """Return a text as it is sent if it may be of any length."""
    return TextShaper(segments_max=1_000, plain_marks=True).shape(text)
