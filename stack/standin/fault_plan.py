"""What a stand-in provider does wrong, and when: an ordered list of rules, the first that fires decides.

A rule applies at one stage (`on`), to the recipients it names (`to`, `to_prefix`, `to_suffix`) and the
sender it names (`from`); all of these must match. Of its matches it lets the first `skip` pass, then fires
with probability `rate`, at most `count` times. Probabilities come from one seeded generator, so a run can
be repeated. What a rule does when it fires is its program's business: see the subclasses of `Fault`.
"""

import math
import random
from collections.abc import Iterator, Sequence
from heapq import merge
from typing import Annotated, Final, Generic, TypeVar

import msgspec
from msgspec import Meta

FAULTS_MAX: Final = 10_000
LATENCY_MS_MAX: Final = 600_000.0
_Z99: Final = 2.3263478740408408  # the 99th percentile of the standard normal distribution

Milliseconds = Annotated[float, Meta(ge=0, le=LATENCY_MS_MAX)]


class Spread(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A random latency: even between `min` and `max`, or log-normal through `p50` and `p99`."""

    min: Milliseconds | None = None
    max: Milliseconds | None = None
    p50: Milliseconds | None = None
    p99: Milliseconds | None = None

    def __post_init__(self) -> None:
        """Refuse anything but one complete pair in rising order."""
        pairs = [(self.min, self.max), (self.p50, self.p99)]
        given = [(low, high) for low, high in pairs if low is not None or high is not None]
        if len(given) != 1 or None in given[0]:
            raise ValueError("give either `min` and `max` or `p50` and `p99`")
        low, high = given[0]
        if low is None or high is None or low > high or (self.p50 is not None and low <= 0):
            raise ValueError("the lower value must not exceed the higher, and `p50` must be above 0")

    def draw_ms(self, rng: random.Random) -> float:
        """Return one latency in milliseconds."""
        if self.min is not None and self.max is not None:
            return rng.uniform(self.min, self.max)
        assert self.p50 is not None
        assert self.p99 is not None
        sigma = math.log(self.p99 / self.p50) / _Z99
        return min(rng.lognormvariate(math.log(self.p50), sigma), LATENCY_MS_MAX)


Latency = Milliseconds | Spread


def draw_seconds(latency: Latency, rng: random.Random) -> float:
    """Return one latency in seconds."""
    return (latency.draw_ms(rng) if isinstance(latency, Spread) else latency) / 1000


class Fault(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """One rule: where and how often it fires. Subclasses add what happens then."""

    on: str
    to: str | None = None
    to_prefix: str | None = None
    to_suffix: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    skip: Annotated[int, Meta(ge=0)] = 0
    count: Annotated[int, Meta(ge=1)] | None = None
    rate: Annotated[float, Meta(ge=0, le=1)] = 1.0
    latency_ms: Latency = 0.0  # waited before the fault shows

    def matches(self, recipients: Sequence[str], sender: str) -> bool:
        """Tell whether the rule is about this sender and at least one of the recipients."""
        if self.sender is not None and self.sender != sender:
            return False
        if self.to is None and self.to_prefix is None and self.to_suffix is None:
            return True
        return any(self._names(recipient) for recipient in recipients)

    def _names(self, recipient: str) -> bool:
        return (
            (self.to is None or self.to == recipient)
            and (self.to_prefix is None or recipient.startswith(self.to_prefix))
            and (self.to_suffix is None or recipient.endswith(self.to_suffix))
        )


FaultT = TypeVar("FaultT", bound=Fault)


class Rule(Generic[FaultT]):
    """A fault's place in the plan and how often it matched and fired so far."""

    __slots__ = ("fault", "fired", "position", "seen")

    def __init__(self, position: int, fault: FaultT) -> None:
        self.position = position
        self.fault = fault
        self.seen = 0
        self.fired = 0

    @property
    def remaining(self) -> int | None:
        """How often the rule can still fire; None is without limit."""
        return None if self.fault.count is None else self.fault.count - self.fired

    def fires(self, rng: random.Random) -> bool:
        """Count one match and tell whether the rule fires on it."""
        self.seen += 1
        if self.seen <= self.fault.skip or self.remaining == 0:
            return False
        if self.fault.rate < 1 and rng.random() >= self.fault.rate:
            return False
        self.fired += 1
        return True


class _Stage(Generic[FaultT]):
    """The rules of one stage. Those for one exact recipient are indexed: a load test has thousands."""

    def __init__(self) -> None:
        self.exact: dict[str, list[Rule[FaultT]]] = {}
        self.others: list[Rule[FaultT]] = []

    def add(self, rule: Rule[FaultT]) -> None:
        recipient = rule.fault.to
        (self.others if recipient is None else self.exact.setdefault(recipient, [])).append(rule)

    def candidates(self, recipients: Sequence[str]) -> Iterator[Rule[FaultT]]:
        named = [self.exact[recipient] for recipient in dict.fromkeys(recipients) if recipient in self.exact]
        if not named:
            return iter(self.others)
        return merge(*named, self.others, key=lambda rule: rule.position)


class FaultPlan(Generic[FaultT]):
    """The rules in force and their counters."""

    def __init__(self, faults: Sequence[FaultT], rng: random.Random) -> None:
        self.rules = [Rule(position, fault) for position, fault in enumerate(faults)]
        self._rng = rng
        self._stages: dict[str, _Stage[FaultT]] = {}
        for rule in self.rules:
            self._stages.setdefault(rule.fault.on, _Stage()).add(rule)

    def concerns(self, stage: str) -> bool:
        """Tell whether there are rules for a stage at all."""
        return stage in self._stages

    def draw(self, stage: str, recipients: Sequence[str] = (), sender: str = "") -> FaultT | None:
        """Return the fault to show at this point, or None: all is well."""
        rules = self._stages.get(stage)
        if rules is None:
            return None
        for rule in rules.candidates(recipients):
            if rule.fault.matches(recipients, sender) and rule.fires(self._rng):
                return rule.fault
        return None

    def report(self) -> list[dict[str, object]]:
        """Return each rule with its counters, as the control API shows them."""
        return [
            {"rule": rule.fault, "seen": rule.seen, "fired": rule.fired, "remaining": rule.remaining}
            for rule in self.rules
        ]
