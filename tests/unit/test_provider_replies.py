"""Whatever a provider replies, a send ends as it has to, in time: corpus group L, over real connections.

What counts as not accepted is sent again, so then the other side must not have it; what counts as accepted is
never sent again, so then it must.
"""

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import msgspec
import pytest
from data.corpus.provider_replies import Case, OtherSide, Outcome, Servers, cases, other_side, running_servers
from emulated_twilio import SID, TOKEN

from pipeline.clock import SystemClock
from pipeline.errors import (
    AccountRefusedError,
    OutcomeUnknownError,
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    ThrottledError,
)
from pipeline.notifications.notification import Email, Sms
from pipeline.notifications.provider import Accepted, EmailProvider, SmsProvider
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.settings import EmailSettings, SmsSettings
from stack.smtp.certificate import make_certificate

TIMEOUT_S = 0.6
ENDED_S = 6 * TIMEOUT_S  # several exchanges, each of which may come to its time-out
CANARIES = ("4155550199", "zdenka", "kanarek", "canary", TOKEN)
SMS = Sms(effect_id="0a" * 16, to="+14155550199", body="Dear Zdenka Kanarek")
MAIL = Email(effect_id="0b" * 16, to="zdenka@example.com", subject="Kanarek", text="Dear Zdenka Kanarek")
# The most special first.
OUTCOMES: dict[type[ProviderError], Outcome] = {
    AccountRefusedError: "account",
    ThrottledError: "throttled",
    RecipientRefusedError: "recipient",
    RejectedError: "rejected",
    OutcomeUnknownError: "unknown",
}


class Ending(msgspec.Struct, frozen=True):
    """How a send ended."""

    outcome: str
    text: str = ""
    code: str = ""
    retry_after_s: float | None = None


def sms_provider(side: OtherSide, case: Case, client: str, ca_file: str) -> SmsProvider:
    own = SmsSettings(
        client=client,
        ca_file=ca_file,
        base_url=side.url,
        account_sid=SID,
        auth_token=TOKEN,
        from_number="+15005550006",
        timeout_s=TIMEOUT_S,
        connect_timeout_s=TIMEOUT_S / 2,
    )
    return TwilioProvider(msgspec.structs.replace(own, **case.settings))


def email_provider(side: OtherSide, case: Case, ca_file: str) -> EmailProvider:
    place = urlsplit(side.url)
    own = EmailSettings(
        host=place.hostname,
        ca_file=ca_file,
        port=place.port,
        tls="implicit" if place.scheme == "smtps" else "none",
        timeout_s=TIMEOUT_S,
    )
    return SmtpProvider(
        msgspec.structs.replace(own, **case.settings), sender_name="Shop", clock=SystemClock()
    )


async def ending(provider: SmsProvider | EmailProvider, message: Sms | Email) -> Ending:
    try:
        accepted = await provider.send(message)
    except ProviderError as error:
        outcome = next((name for kind, name in OUTCOMES.items() if isinstance(error, kind)), "no outcome")
        return Ending(outcome, str(error), error.code, getattr(error, "retry_after_s", None))
    assert isinstance(accepted, Accepted)
    return Ending("accepted")


async def check(case: Case, provider: SmsProvider | EmailProvider, message: Sms | Email) -> Ending:
    """Send within the time-outs; compare with what the case expects."""
    began = time.monotonic()
    try:
        found = await ending(provider, message)
    finally:
        with suppress(ProviderError):
            await provider.close()
    assert time.monotonic() - began < ENDED_S
    assert found.outcome == case.outcome, found
    assert not case.code or case.code == found.code.partition(" ")[0], found  # an enhanced code may follow
    if case.retry_after_s is not None:
        assert (found.retry_after_s or 0) == case.retry_after_s, found
    for canary in CANARIES:
        assert canary.lower() not in f"{found.text} {provider!r}".lower()
    return found


async def check_kept(case: Case, side: OtherSide) -> None:
    expected = case.kept_expected
    if expected is None:
        return
    async with asyncio.timeout(5):
        while await side.kept() < expected:  # noqa: ASYNC110  # another program's state
            await asyncio.sleep(0.01)
    assert await side.kept() == expected


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running_servers() as running:
        yield running


@pytest.fixture(scope="module")
def ca_file(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A certificate that no server here has; reading the system's takes a tenth of a second each time."""
    return str(make_certificate(tmp_path_factory.mktemp("ca"), "ca.localhost")[0])


def ids(case: Case) -> str:
    return case.name


@pytest.mark.parametrize("client", ["lean", "sdk"])
@pytest.mark.parametrize("case", cases("twilio"), ids=ids)
async def test_a_reply_of_an_sms_api(
    case: Case, client: str, servers: Servers, ca_file: str, tmp_path: Path
) -> None:
    async with other_side(case, servers, tmp_path) as side:
        await check(case, sms_provider(side, case, client, side.ca_file or ca_file), SMS)
        await check_kept(case, side)
        assert side.visits == []


@pytest.mark.parametrize("case", cases("smtp"), ids=ids)
async def test_a_reply_of_a_relay(case: Case, servers: Servers, ca_file: str, tmp_path: Path) -> None:
    async with other_side(case, servers, tmp_path) as side:
        await check(case, email_provider(side, case, side.ca_file or ca_file), MAIL)
        await check_kept(case, side)


def test_every_number_of_the_group_has_a_case() -> None:
    assert {case.number for name in ("twilio", "smtp") for case in cases(name)} == set(range(365, 393))
