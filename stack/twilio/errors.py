"""Twilio's error codes: the HTTP status and the words each one comes with."""

from typing import Final

import orjson

MORE_INFO: Final = "https://www.twilio.com/docs/errors/"

# What a request can be answered with: code -> (HTTP status, message).
REQUEST_ERRORS: Final[dict[int, tuple[int, str]]] = {
    20001: (400, "Invalid parameter"),
    20003: (401, "Authenticate"),
    20004: (405, "Method not allowed"),
    20009: (409, "Cannot delete this resource before it is complete"),
    20404: (404, "The requested resource was not found"),
    20429: (429, "Too Many Requests"),
    20500: (500, "Internal Server Error"),
    20503: (503, "Service unavailable"),
    21211: (400, "Invalid 'To' Phone Number"),
    21212: (400, "Invalid 'From' Phone Number"),
    21408: (400, "Permission to send an SMS has not been enabled for the region of the 'To' number"),
    21602: (400, "Message body is required."),
    21603: (400, "A 'From' or 'MessagingServiceSid' parameter is required to send a message"),
    21604: (400, "A 'To' phone number is required."),
    21606: (400, "The 'From' phone number is not a message-capable Twilio number for this destination."),
    21608: (400, "The 'To' phone number provided is not yet verified for this account."),
    21609: (400, "The 'StatusCallback' URL is not a valid URL."),
    21610: (400, "Attempt to send to unsubscribed recipient"),
    21611: (429, "This 'From' number has exceeded the maximum number of queued messages"),
    21612: (400, "The 'To' phone number is not currently reachable via SMS"),
    21614: (400, "'To' number is not a valid mobile number"),
    21617: (400, "The concatenated message body exceeds the 1600 character limit"),
    21635: (400, "'To' number cannot be a landline"),
    21701: (400, "The Messaging Service does not exist"),
    30409: (400, "This message cannot be canceled"),
    35114: (400, "Scheduling does not support this timestamp"),
}

# What a message can fail with after it was accepted: code -> message.
DELIVERY_ERRORS: Final[dict[int, str]] = {
    30001: "Queue overflow",
    30002: "Account suspended",
    30003: "Unreachable destination handset",
    30004: "Message blocked",
    30005: "Unknown destination handset",
    30006: "Landline or unreachable carrier",
    30007: "Message filtered",
    30008: "Unknown error",
    30410: "Provider Timeout Error",
    30450: "Message delivery blocked",
}
UNKNOWN_DELIVERY_ERROR: Final = 30008

# The code a bare HTTP status stands for when a fault names none.
CODE_OF_STATUS: Final = {401: 20003, 404: 20404, 405: 20004, 409: 20009, 429: 20429, 500: 20500, 503: 20503}


class RequestRefused(Exception):  # noqa: N818 - a refusal is an answer, not an error of this program
    """The request gets an error reply with a code of `REQUEST_ERRORS`."""

    def __init__(self, code: int, detail: str = "") -> None:
        status, message = REQUEST_ERRORS[code]
        super().__init__(f"{message}: {detail}" if detail else message)
        self.code = code
        self.status = status


def error_body(code: int, status: int, message: str) -> bytes:
    """Return the JSON of an error reply."""
    return orjson.dumps(
        {"code": code, "message": message, "more_info": f"{MORE_INFO}{code}", "status": status}
    )
