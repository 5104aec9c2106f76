"""Settings of unknown outcomes: messages of which nobody knows whether a provider has accepted them."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Seconds, about

Policy = Literal["person", "prefer-miss", "prefer-duplicate"]


class EffectSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is done about a message when its call ended without an answer.

    The provider is asked. Where it cannot tell, the policy of the message's kind says what then: `person`
    leaves it to `postorder effects resolve`, `prefer-miss` gives it up, `prefer-duplicate` sends it again.
    """

    order_sms_policy: Annotated[Policy, about("for an order's SMS")] = "person"
    order_email_policy: Annotated[
        Policy, about("for an order's mail; sent again, it has the same Message-ID")
    ] = "prefer-duplicate"
    invoice_email_policy: Annotated[Policy, about("for an invoice's mail; as above")] = "prefer-duplicate"
    ask_after_s: Annotated[
        Seconds,
        about(
            "not asked before, since the claim; must be more than notifications.lease_s and a call's time-out"
        ),
    ] = 90.0
    ask_interval_s: Annotated[
        Seconds, about("before it is asked again when it could not tell; doubles each time, up to an hour")
    ] = 60.0
    ask_max: Annotated[
        Annotated[int, Meta(ge=1, le=100)], about("times it is asked, then the policy decides")
    ] = 5
