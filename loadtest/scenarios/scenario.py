"""What a load test is made of. A scenario is data: phases of load, faults while they last, thresholds."""

from collections import Counter
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from pipeline.errors import PostorderError

EVENTS_MAX = 20_000_000
"""Of one run: the arrays of times take 50 bytes an event."""

Seconds = Annotated[float, Meta(gt=0, le=604_800)]
RatePerS = Annotated[float, Meta(gt=0, le=100_000)]
Load = Annotated[float, Meta(ge=0, le=1000)]
Share = Annotated[float, Meta(ge=0, le=1)]


class LoadTestError(PostorderError):
    """A load test cannot begin, or cannot go on."""


class Arrival(StrEnum):
    """How orders come: by chance at a mean rate, or as a clock ticks."""

    POISSON = "poisson"
    CONSTANT = "constant"


class Part(StrEnum):
    """The processes that a load test runs the pipeline in, with the roles of each."""

    INTAKE = "intake"
    SENDER = "sender"
    PUBLIC = "public"

    @property
    def roles(self) -> str:
        """The roles, as `postorder run --only` takes them."""
        return {
            Part.INTAKE: "order-processed,invoice-generated,customer-updated",
            Part.SENDER: "notifications",
            Part.PUBLIC: "public",
        }[self]


class StandInFault(msgspec.Struct, frozen=True, kw_only=True, tag="stand_in"):
    """A stand-in behaves otherwise while the phase lasts. `behaviour`: as its control API takes it."""

    stand_in: Literal["sms", "email"]
    what: str
    behaviour: dict[str, Any]
    destroys = False

    def __str__(self) -> str:
        """Name it."""
        return f"{self.stand_in} provider: {self.what}"


class ServerKilled(msgspec.Struct, frozen=True, kw_only=True, tag="server_killed"):
    """A server of the local stack gets SIGKILL, and is started again when the phase ends."""

    server: str
    destroys = True

    def __str__(self) -> str:
        """Name it."""
        return f"{self.server} killed"


class ShardAdded(msgspec.Struct, frozen=True, kw_only=True, tag="shard_added"):
    """`postorder shards add` runs; the phase after it begins when that is done."""

    shard: str
    destroys = True

    def __str__(self) -> str:
        """Name it."""
        return f"{self.shard} added"


class PartHeld(msgspec.Struct, frozen=True, kw_only=True, tag="part_held"):
    """A part of the pipeline does not run before the phase ends, so that its work piles up."""

    part: Part
    destroys = False

    def __str__(self) -> str:
        """Name it."""
        return f"{self.part} not running"


Fault = StandInFault | ServerKilled | ShardAdded | PartHeld


class Mix(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What comes besides orders, as shares of them. Invoices come up to `invoice_delay_s` later.

    `sms_share`, `mail_share`: of orders whose customer has a phone number, and an address. To the others
    nothing can be sent.
    """

    invoices: Share = 0.5
    invoice_delay_s: Seconds = 3.0
    duplicates: Share = 0.01
    bad: Share = 0.001
    sms_share: Share = 1.0
    mail_share: Share = 1.0


class Phase(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A stretch of time. `load` is what the scenario's rate is multiplied by; `load_end`: what it goes to.

    `measured`: whether its figures go into thresholds and comparisons.
    """

    name: str
    seconds: Seconds
    load: Load = 1.0
    load_end: Load | None = None
    measured: bool = True
    faults: tuple[Fault, ...] = ()


class Threshold(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A bound of a figure; one of `at_most` and `at_least`. A figure that is not there does not keep it."""

    figure: str
    at_most: float | None = None
    at_least: float | None = None

    def keeps(self, value: float | None) -> bool:
        """Return whether a value keeps the bound."""
        if value is None:
            return False
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )

    @property
    def wanted(self) -> str:
        """The bound for people."""
        return f"≤ {self.at_most:,g}" if self.at_most is not None else f"≥ {self.at_least or 0:,g}"


class Ramp(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How a ramp to the knee judges a step, and when it ends.

    A step is sustained when at its end no more than `lag_s_max` of its work is open and the p99 of `p99_of`
    is no more than `p99_ms_max`. The ramp ends when `give_up_lag_s` of work is open.
    """

    lag_s_max: Seconds = 1.0
    p99_of: str = "committed"
    p99_ms_max: float = 1000.0
    give_up_lag_s: Seconds = 5.0


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A load test. `rate_per_s`: orders. `settings`: of the pipeline, as environment variables.

    `idle_shards`: shards of the stack that own nothing at first. `history`: orders come as they did in the
    replayed history, its whole length in the one measured phase. `allocated`: parts that run with `--workers
    auto`.
    """

    name: str
    purpose: str
    rate_per_s: RatePerS
    phases: Annotated[tuple[Phase, ...], Meta(min_length=1)]
    arrival: Arrival = Arrival.POISSON
    mix: Mix = Mix()
    parts: tuple[Part, ...] = tuple(Part)
    allocated: tuple[Part, ...] = ()
    settings: dict[str, str] = {}
    shards: Annotated[int, Meta(ge=1, le=16)] = 2
    idle_shards: Annotated[int, Meta(ge=0, le=4)] = 0
    history: bool = False
    ramp: Ramp | None = None
    thresholds: tuple[Threshold, ...] = ()
    seed: int = 1
    settle_s: Seconds = 120.0

    @property
    def seconds(self) -> float:
        """How long events are published."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def destroys(self) -> list[str]:
        """What of it must not be done to an installation that others use."""
        return [str(fault) for phase in self.phases for fault in phase.faults if fault.destroys]

    @property
    def sends(self) -> bool:
        """Whether messages go out."""
        return Part.SENDER in self.parts

    def bounds(self) -> list[tuple[Phase, float, float]]:
        """Return each phase with its begin and end in seconds since the run's start."""
        found, at = [], 0.0
        for phase in self.phases:
            found.append((phase, at, at + phase.seconds))
            at += phase.seconds
        return found


def stretched(scenario: Scenario, *, rate_per_s: float | None, seconds: float | None) -> Scenario:
    """Return a scenario at another rate, and with all phases longer or shorter. Raises LoadTestError."""
    if rate_per_s is not None:
        scenario = msgspec.structs.replace(scenario, rate_per_s=rate_per_s)
    if seconds is not None:
        factor = seconds / scenario.seconds
        phases = tuple(
            msgspec.structs.replace(phase, seconds=phase.seconds * factor) for phase in scenario.phases
        )
        scenario = msgspec.structs.replace(scenario, phases=phases)
    return checked(scenario)


def checked(scenario: Scenario) -> Scenario:
    """Return the scenario. Raises LoadTestError for rates, lengths, shards, names, bounds without sense."""
    names = Counter(phase.name for phase in scenario.phases)
    if twice := [name for name, count in names.items() if count > 1]:
        raise LoadTestError(f"{twice[0]}: two phases have this name, which their figures go by")
    for threshold in scenario.thresholds:
        if (threshold.at_most is None) == (threshold.at_least is None):
            raise LoadTestError(f"threshold of {threshold.figure}: give one of at_most and at_least")
    if scenario.idle_shards >= scenario.shards:
        raise LoadTestError(
            f"{scenario.idle_shards} of {scenario.shards} shards idle: at least one has to own slots at first"
        )
    if not 0 < scenario.rate_per_s <= 100_000:  # noqa: PLR2004  # the bound of RatePerS
        raise LoadTestError(f"a rate of {scenario.rate_per_s:g} orders/s: give one above 0 and up to 100,000")
    if not 0 < scenario.seconds <= 604_800:  # noqa: PLR2004  # the bound of Seconds
        raise LoadTestError(f"{scenario.seconds:g} s: give a length above 0 and up to a week (604800)")
    per_order = 1 + scenario.mix.invoices + scenario.mix.duplicates + scenario.mix.bad
    expected = sum(
        scenario.rate_per_s * phase.seconds * (phase.load + _last(phase)) / 2 for phase in scenario.phases
    )
    if expected * per_order > EVENTS_MAX:
        raise LoadTestError(
            f"{expected * per_order:,.0f} events: a run has {EVENTS_MAX:,} at most; lower --rate or --seconds"
        )
    return scenario


def _last(phase: Phase) -> float:
    return phase.load if phase.load_end is None else phase.load_end


def scenario_of_file(path: Path) -> Scenario:
    """Read a scenario from a TOML file. Raises LoadTestError, naming what is wrong in it."""
    try:
        return msgspec.toml.decode(path.read_bytes(), type=Scenario)
    except OSError as error:
        raise LoadTestError(f"{path}: cannot be read: {error.strerror}") from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise LoadTestError(f"{path}: is no scenario: {error}") from error
