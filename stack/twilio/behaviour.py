"""How the Twilio emulator behaves: the document its control API takes, and that document at work."""

import asyncio
import random
import time
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stack.standin.fault_plan import FAULTS_MAX, Fault, FaultPlan, Latency, Milliseconds, draw_seconds
from stack.twilio.messages import FinalStatus

Url = Annotated[str, Meta(pattern=r"\Ahttps?://", max_length=4000)]
HeaderText = Annotated[str, Meta(pattern=r"\A[^\r\n\x00]*\Z", max_length=4000)]

_CALLBACK_ACTIONS: Final = frozenset({"skip", "twice", "bad_signature"})
_ACTIONS: Final = {"delivery": frozenset({"outcome"}), "callback": _CALLBACK_ACTIONS | {"pass"}}
# These show a fault in the reply to a request that was served; the others refuse the request.
_SERVING: Final = frozenset(
    {
        "pass",
        "accept_then_drop",
        "hang",
        "not_json",
        "no_sid",
        "foreign_sid",
        "duplicate_sid",
        "slow_body",
        "truncated_body",
        "bad_chunks",
        "huge_body",
    }
)


class HttpFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that goes wrong with requests, deliveries or callbacks.

    `accept` says whether a faulty create still records (and delivers) its message; each action has a
    default for it.
    """

    on: Literal["create", "fetch", "list", "update", "delete", "delivery", "callback"]
    action: Literal[
        "pass",  # wait `latency_ms`, then serve
        "status",  # reply with `status`, `code`, `retry_after`, `headers`, `body`
        "accept_then_drop",  # serve, then close the connection without a reply
        "drop_before",  # close the connection
        "hang",  # serve, then reply after `hang_ms`
        "not_json",  # serve, reply 200 with HTML
        "no_sid",  # serve, reply without the sid
        "foreign_sid",  # serve, reply with a sid of another form
        "duplicate_sid",  # serve, reply with the sid of the message before
        "redirect",  # reply 302 with a Location
        "slow_body",  # serve, spread the reply's body over `hang_ms`
        "truncated_body",  # serve, close in the middle of the reply's body
        "bad_chunks",  # serve, reply with a chunked body that is none
        "huge_body",  # serve, reply with `size_bytes` of JSON white space and no end
        "outcome",  # only on delivery: end with `final_status`, `error_code`, after `delay_ms`
        "skip",  # only on callback: do not send it
        "twice",  # only on callback: send it twice
        "bad_signature",  # only on callback: sign it with another token
    ]
    status: Annotated[int, Meta(ge=200, le=599)] = 500
    code: int | None = None
    retry_after: HeaderText | None = None  # verbatim, so it may be nonsense
    headers: dict[HeaderText, HeaderText] = msgspec.field(default_factory=dict)
    body: str | None = None  # verbatim instead of Twilio's error JSON
    accept: bool | None = None
    hang_ms: Milliseconds = 30_000.0
    size_bytes: Annotated[int, Meta(ge=1, le=2**31)] = 10_000_000
    final_status: FinalStatus = "undelivered"
    error_code: int | None = None
    delay_ms: Latency | None = None

    def __post_init__(self) -> None:
        """Refuse actions where they mean nothing."""
        elsewhere = self.action == "outcome" or self.action in _CALLBACK_ACTIONS
        if self.action not in _ACTIONS[self.on] if self.on in _ACTIONS else elsewhere:
            raise ValueError(f"`{self.action}` is no action on `{self.on}`")

    @property
    def serves(self) -> bool:
        """Whether the request is carried out before the fault shows."""
        return self.action in _SERVING if self.accept is None else self.accept


class RateLimit(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """API requests per second beyond which the reply is 429; `burst` of them may come at once."""

    per_s: Annotated[float, Meta(gt=0)]
    burst: Annotated[int, Meta(ge=1)] | None = None
    retry_after: HeaderText | None = "1"


class Delivery(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """What becomes of messages for which no `delivery` fault fires."""

    delay_ms: Latency = 50.0
    status: FinalStatus = "delivered"
    error_code: int | None = None


class Callbacks(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """How persistently status callbacks and inbound webhooks are posted."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    timeout_ms: Annotated[float, Meta(gt=0, le=60_000)] = 5000.0
    retry_delay_ms: Milliseconds = 200.0


class Behaviour(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """The whole document; what is left out is well-behaved."""

    seed: int = 1
    latency_ms: Latency = 0.0  # before a request is carried out
    rate_limit: RateLimit | None = None
    list_lag_ms: Milliseconds = 0.0  # a new message is missing from the list for so long
    delivery: Delivery = Delivery()
    callbacks: Callbacks = Callbacks()
    inbound_url: Url | None = None
    faults: Annotated[list[HttpFault], Meta(max_length=FAULTS_MAX)] = msgspec.field(default_factory=list)


class TokenBucket:
    """Lets `per_s` requests a second through."""

    def __init__(self, limit: RateLimit) -> None:
        self._per_s = limit.per_s
        self._burst = float(limit.burst or max(1, int(limit.per_s)))
        self._tokens = self._burst
        self._filled = time.monotonic()

    def take(self) -> bool:
        """Take a token if there is one."""
        now = time.monotonic()
        self._tokens = min(self._burst, self._tokens + (now - self._filled) * self._per_s)
        self._filled = now
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Conduct:
    """A behaviour at work: its generator, its fault plan and its rate limit."""

    def __init__(self, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        # Repeatable draws are the point; nothing secret depends on them.
        self.rng = random.Random(behaviour.seed)  # noqa: S311
        self.plan: FaultPlan[HttpFault] = FaultPlan(behaviour.faults, self.rng)
        self._bucket = None if behaviour.rate_limit is None else TokenBucket(behaviour.rate_limit)

    def throttles(self) -> bool:
        """Tell whether the request in hand is one too many, and count it if not."""
        return self._bucket is not None and not self._bucket.take()

    async def linger(self) -> None:
        """Wait as long as a request takes."""
        if self.behaviour.latency_ms != 0.0:
            await asyncio.sleep(draw_seconds(self.behaviour.latency_ms, self.rng))

    def outcome(self, to: str, sender: str) -> tuple[FinalStatus, int | None, float]:
        """Return final status, error code and seconds until then for a message that is being accepted."""
        fault = self.plan.draw("delivery", (to,), sender)
        default = self.behaviour.delivery
        if fault is None:
            return default.status, default.error_code, draw_seconds(default.delay_ms, self.rng)
        delay_ms = default.delay_ms if fault.delay_ms is None else fault.delay_ms
        return fault.final_status, fault.error_code, draw_seconds(delay_ms, self.rng)
