"""Messages as Twilio's API shows them."""

import time
from functools import lru_cache
from typing import Any, Final

from stack.twilio.errors import DELIVERY_ERRORS, UNKNOWN_DELIVERY_ERROR
from stack.twilio.messages import FAILURES, Message, MessageStore

API_VERSION: Final = "2010-04-01"


@lru_cache(maxsize=4096)
def rfc2822(second: int) -> str:
    """Return a UNIX time as "Thu, 24 Aug 2023 05:01:45 +0000"."""
    return time.strftime("%a, %d %b %Y %H:%M:%S +0000", time.gmtime(second))


def failure(message: Message, status: str) -> tuple[int | None, str | None]:
    """Return error code and message of a message in that status."""
    if status not in FAILURES:
        return None, None
    code = message.error_code or UNKNOWN_DELIVERY_ERROR
    return code, DELIVERY_ERRORS.get(code, DELIVERY_ERRORS[UNKNOWN_DELIVERY_ERROR])


class MessageResource:
    """Writes one account's messages as API resources."""

    def __init__(self, account_sid: str, store: MessageStore) -> None:
        self._account_sid = account_sid
        self._store = store
        self.collection_path = f"/{API_VERSION}/Accounts/{account_sid}/Messages"

    def describe(self, message: Message, now: float) -> dict[str, Any]:
        """Return the resource as it stands at `now`."""
        sid = self._store.sid(message)
        path = f"{self.collection_path}/{sid}"
        status, since, sent = message.standing(now)
        error_code, error_message = failure(message, status)
        # Before a Messaging Service has picked a sender, nobody knows the segments.
        unassigned = status in {"accepted", "scheduled"}
        return {
            "body": message.body,
            "num_segments": "0" if unassigned else str(message.segments),
            "direction": "inbound" if message.inbound else "outbound-api",
            "from": message.sender,
            "date_updated": rfc2822(int(max(since, message.edited or 0.0))),
            "price": None,
            "error_message": error_message,
            "uri": f"{path}.json",
            "account_sid": self._account_sid,
            "num_media": str(message.media_count),
            "to": message.to,
            "date_created": rfc2822(int(message.created)),
            "status": status,
            "sid": sid,
            "date_sent": None if sent is None else rfc2822(int(sent)),
            "messaging_service_sid": message.service_sid,
            "error_code": error_code,
            "price_unit": "USD",
            "api_version": API_VERSION,
            "subresource_uris": {"media": f"{path}/Media.json"},
        }
