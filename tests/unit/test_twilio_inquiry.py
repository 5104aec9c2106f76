"""What a list of messages proves when it does not name the number as we do."""

from datetime import UTC, datetime

import msgspec
import pytest

from pipeline.notifications.notification import Sms
from pipeline.notifications.provider import CannotTell, Evidence, Found, NotFound
from pipeline.notifications.providers.twilio_inquiry import Inquiry
from pipeline.notifications.providers.twilio_reply import Reply
from pipeline.settings import SmsSettings

SETTINGS = SmsSettings(account_sid="AC" + "0" * 32, from_number="+15005550006")
SENT = Sms(effect_id="0a" * 16, to="+5491112345678", body="Shop: your order 1001 over 12.50 EUR")
SID = "SM" + "1" * 32


async def found(to: str | None, body: str) -> Evidence:
    listed = {
        "sid": SID,
        "date_created": "Sat, 21 Mar 2026 12:00:01 +0000",
        "direction": "outbound-api",
        "from": SETTINGS.from_number,
        "to": to,
        "body": body,
    }

    async def get(_target: str) -> Reply:
        return Reply(200, msgspec.json.encode({"messages": [listed], "next_page_uri": None}))

    since = datetime(2026, 3, 21, 12, tzinfo=UTC)
    return await Inquiry(SETTINGS, get).find(SENT, since, provider="twilio")


@pytest.mark.parametrize(
    "to", ["+541112345678", "+549111234XXXX", None], ids=["other form", "redacted", "none"]
)
async def test_a_number_written_otherwise_proves_nothing(to: str | None) -> None:
    """By the provider's word the list is of the number's messages: sent again, it might be there twice."""
    assert await found(to, SENT.body) == CannotTell("other_number", is_final=True)
    assert await found(to, "") == CannotTell("other_number", is_final=True)


async def test_another_orders_text_to_whatever_number_is_none_of_ours() -> None:
    assert await found("+541112345678", "Shop: your order 2002 over 99.00 USD") == NotFound()
    assert await found(SENT.to, SENT.body) == Found("twilio", SID)
