"""How the SMTP sink behaves: the document its control API takes, and that document at work."""

import random
from typing import Annotated, Final, Literal

import msgspec
from msgspec import Meta

from stack.standin.fault_plan import FAULTS_MAX, Fault, FaultPlan, Latency, Milliseconds, draw_seconds

RAW_BYTES_MAX: Final = 64 * 1024 * 1024

Line = Annotated[str, Meta(pattern=r"\A[^\r\n]*\Z", max_length=1000)]

_REFUSAL: Final = 400


class SmtpFault(Fault, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that goes wrong at one verb. `DATA_END` is the dot that ends a mail.

    `accept` says whether the command still takes effect (at `DATA_END`: the mail is kept); each action
    has a default for it.
    """

    on: Literal[
        "CONNECT",
        "EHLO",
        "STARTTLS",
        "AUTH",
        "MAIL",
        "RCPT",
        "DATA",
        "DATA_END",
        "RSET",
        "NOOP",
        "VRFY",
        "QUIT",
    ]
    action: Literal[
        "pass",  # wait `latency_ms`, then carry on
        "reply",  # reply `code` and `text` (a list: several lines); from 400 up the command has no effect
        "raw",  # reply with `text` as it is, `repeat` times: wrong, endless, unasked-for or no replies
        "truncate",  # send the first `size_bytes` of the reply, then close
        "hang",  # carry on, but reply only after `hang_ms`
        "silent",  # carry on, but without this reply
        "drop",  # close the connection
        "accept_then_drop",  # carry on, but close the connection instead of replying
    ]
    code: Annotated[int, Meta(ge=200, le=599)] = 451
    text: str | list[Line] = "4.3.0 Fault on request"
    repeat: Annotated[int, Meta(ge=1, le=10_000_000)] = 1
    size_bytes: Annotated[int, Meta(ge=0, le=1000)] = 2
    hang_ms: Milliseconds = 30_000.0
    accept: bool | None = None

    def __post_init__(self) -> None:
        """Refuse replies that are too long or not what they say."""
        if isinstance(self.text, list):
            if not self.text or self.action == "raw":
                raise ValueError("`text` must be a list of at least one line, and only with `reply`")
        elif self.action != "raw" and ("\r" in self.text or "\n" in self.text):
            raise ValueError("several lines of `text` are a list, unless the action is `raw`")
        elif len(self.text) * self.repeat > RAW_BYTES_MAX:
            raise ValueError(f"`text` times `repeat` is over {RAW_BYTES_MAX} characters")

    @property
    def serves(self) -> bool:
        """Whether the command takes effect."""
        if self.accept is not None:
            return self.accept
        return self.action != "drop" and not (self.action == "reply" and self.code >= _REFUSAL)

    def lines(self) -> list[str]:
        """Return the text of a `reply`."""
        return self.text if isinstance(self.text, list) else [self.text]


class SmtpBehaviour(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True
):
    """The whole document; what is left out is well-behaved."""

    seed: int = 1
    latency_ms: Latency = 0.0  # between the end of a mail and its reply
    faults: Annotated[list[SmtpFault], Meta(max_length=FAULTS_MAX)] = msgspec.field(default_factory=list)


class SmtpConduct:
    """A behaviour at work: its generator and its fault plan."""

    def __init__(self, behaviour: SmtpBehaviour) -> None:
        self.behaviour = behaviour
        # Repeatable draws are the point; nothing secret depends on them.
        self._rng = random.Random(behaviour.seed)  # noqa: S311
        self.plan: FaultPlan[SmtpFault] = FaultPlan(behaviour.faults, self._rng)

    def delay_s(self, stage: str, fault: SmtpFault | None) -> float:
        """Return how long to wait before this stage is served."""
        latency = self.behaviour.latency_ms
        delay = draw_seconds(latency, self._rng) if latency != 0.0 and stage == "DATA_END" else 0.0
        return delay if fault is None else delay + draw_seconds(fault.latency_ms, self._rng)
