"""Settings of SMS: the account, the connections to its API, numbers that may be texted, lengths of texts."""

from typing import Annotated, Literal

from msgspec import Meta

from pipeline.settings.kinds import Seconds, about
from pipeline.settings.pools import SlotSettings

NumberType = Literal[
    "mobile",
    "fixed_line_or_mobile",
    "fixed_line",
    "voip",
    "personal_number",
    "toll_free",
    "shared_cost",
    "premium_rate",
    "pager",
    "uan",
    "voicemail",
    "unknown",
    "global",
]
# E.164, a short code, or up to eleven characters with a letter among them.
_SENDER = r"\A(\+[1-9][0-9]{6,14}|[0-9]{3,8}|(?=.{0,10}[A-Za-z])[A-Za-z0-9 +&_-]{1,11})?\Z"


class SmsSettings(SlotSettings, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SMS by Twilio's Messages API."""

    client: Annotated[
        Literal["lean", "sdk"],
        about("what speaks to the API: connections of our own, for an eighth of the time, or Twilio's SDK"),
    ] = "lean"
    base_url: Annotated[str, about("the API's scheme and host")] = "https://api.twilio.com"
    ca_file: Annotated[
        str, about("PEM certificates to trust in place of the system's; empty: the system's")
    ] = ""
    account_sid: Annotated[str, Meta(pattern=r"\A(AC[0-9a-fA-F]{32})?\Z"), about("AC…")] = ""
    auth_token: Annotated[str, about("a secret")] = ""
    from_number: Annotated[
        str, Meta(pattern=_SENDER), about("sender: E.164, a short code, or a name of 11 characters at most")
    ] = ""
    messaging_service_sid: Annotated[
        str,
        Meta(pattern=r"\A(MG[0-9a-fA-F]{32})?\Z"),
        about("MG…: a Messaging Service picks the sender, in place of `from_number`"),
    ] = ""
    connect_timeout_s: Annotated[Seconds, about("for opening a connection; in vain: nothing was sent")] = 5.0
    connection_idle_s: Annotated[
        Seconds, about("a connection unused for this long is renewed, before the other side closes it")
    ] = 20.0
    number_types: Annotated[
        tuple[NumberType, ...],
        about(
            "kinds of numbers that may be texted, by their country's numbering plan; `unknown`: in "
            "no range that is given out; `global`: of no country (satellites and the like)"
        ),
    ] = ("mobile", "fixed_line_or_mobile")
    segments_max: Annotated[
        Annotated[int, Meta(ge=1, le=10)], about("parts of a text at most; a longer text is shortened")
    ] = 3
    plain_marks: Annotated[
        bool,
        about("typographic marks become plain ones where the whole text then fits the 7-bit alphabet"),
    ] = True
