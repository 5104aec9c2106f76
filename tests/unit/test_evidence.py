"""What providers know together: one that has a message is enough, that nobody has it all of them must say."""

from datetime import UTC, datetime
from typing import Any

import pytest

from pipeline.errors import DocumentUnavailableError, RecipientRefusedError, RejectedError
from pipeline.notifications.evidence import asker, together
from pipeline.notifications.provider import CannotTell, Evidence, Found, NotFound

FOUND = Found("twilio", "SM1", "sent")
NOT_FOUND = NotFound()
LATER = CannotTell("timeout", is_final=False)
NEVER = CannotTell("no_way_to_ask", is_final=True)
AT = datetime(2026, 11, 21, tzinfo=UTC)


@pytest.mark.parametrize(
    ("answers", "expected"),
    [
        ([FOUND], FOUND),
        ([NOT_FOUND, FOUND], FOUND),
        ([LATER, NEVER, FOUND], FOUND),
        ([NOT_FOUND, NOT_FOUND], NOT_FOUND),
        ([NOT_FOUND, LATER], LATER),
        ([NEVER, LATER], LATER),
        ([NEVER, NOT_FOUND], NEVER),
        ([], CannotTell("nobody_to_ask", is_final=True)),
    ],
)
def test_answers_together(answers: list[Evidence], expected: Evidence) -> None:
    assert together(answers) == expected


class Provider:
    def __init__(self, answer: Evidence) -> None:
        self._answer = answer
        self.asked: list[tuple[str, datetime]] = []

    async def find(self, message: str, since: datetime, /) -> Evidence:
        self.asked.append((message, since))
        return self._answer


async def unchanged(_claim: Any, _since: datetime) -> None:
    pass


async def test_every_provider_is_asked_about_the_message_as_it_was_composed() -> None:
    providers = [Provider(NOT_FOUND), Provider(FOUND)]

    async def compose(claim: Any) -> str:
        return f"text of {claim}"

    claim: Any = "claim"
    assert await asker(compose, providers, unchanged)(claim, AT) == FOUND
    assert [one.asked for one in providers] == [[("text of claim", AT)]] * 2


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RecipientRefusedError("opted_out", "x"), CannotTell("not_composed:opted_out", is_final=True)),
        (
            DocumentUnavailableError("i", "x"),
            CannotTell("not_composed:DocumentUnavailableError", is_final=False),
        ),
    ],
)
async def test_what_cannot_be_composed_again_cannot_be_asked_about(
    error: Exception, expected: CannotTell
) -> None:
    async def compose(_claim: Any) -> str:
        raise error

    claim: Any = "claim"
    provider = Provider(NOT_FOUND)
    assert await asker(compose, [provider], unchanged)(claim, AT) == expected
    assert provider.asked == []


async def test_nobody_is_asked_about_a_message_that_would_go_elsewhere_now() -> None:
    async def compose(_claim: Any) -> str:
        return "text"

    async def changed(_claim: Any, since: datetime) -> None:
        assert since == AT
        raise RejectedError("contact_changed", "x")

    claim: Any = "claim"
    provider = Provider(NOT_FOUND)
    found = await asker(compose, [provider], changed)(claim, AT)
    assert found == CannotTell("not_composed:contact_changed", is_final=True)
    assert provider.asked == []


async def test_a_change_while_the_message_is_composed_is_seen() -> None:
    changes = []

    async def compose(_claim: Any) -> str:
        changes.append("a new number")
        return "text"

    async def check(_claim: Any, _since: datetime) -> None:
        if changes:
            raise RejectedError("contact_changed", "x")

    claim: Any = "claim"
    provider = Provider(NOT_FOUND)
    assert (await asker(compose, [provider], check)(claim, AT)) != NOT_FOUND
    assert provider.asked == []
