"""The names of the figures that a run can have, known before it: what a threshold may be on."""

from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches

from loadtest.scenarios.backlog import WorkedOff
from loadtest.scenarios.figures import BY_SHARD, Peaks
from loadtest.scenarios.knee import Knee
from loadtest.scenarios.latencies import Latency
from loadtest.scenarios.scenario import LoadTestError, PartHeld, Scenario

_INTAKE = ("confirmed", "committed", "replica")
_SMS = ("sms_accepted", "sms owed to claimed", "sms claimed to accepted", "sms_delivered")
_MAIL = ("mail_accepted", "mail owed to claimed", "mail claimed to accepted")
_NEAREST = 3


def check_thresholds(scenario: Scenario, shards: Sequence[str]) -> None:
    """Raise LoadTestError for a threshold on a figure that no run of the scenario has; name the nearest."""
    names = figure_names(scenario, shards)
    for threshold in scenario.thresholds:
        if threshold.figure not in names:
            near = get_close_matches(threshold.figure, sorted(names), _NEAREST, cutoff=0.4)
            hint = f"; near it: {', '.join(near)}" if near else ""
            raise LoadTestError(
                f"threshold of {threshold.figure}: a run of {scenario.name} has no such figure{hint}"
            )


def figure_names(scenario: Scenario, shards: Sequence[str]) -> set[str]:
    """Return every name that `Report.figures` of a scenario on these shards can hold."""
    found = {f"peak.{name}" for name in Peaks.__struct_fields__} | {"memory.growth_mb_per_h"}
    found |= {f"memory.{part}.growth_mb_per_h" for part in scenario.parts}
    if scenario.ramp is not None:
        found |= {f"knee.{name}" for name in Knee.__struct_fields__ if name not in ("bound", "steps")}
    if any(isinstance(fault, PartHeld) for phase in scenario.phases for fault in phase.faults):
        found |= {f"drained.{name}" for name in WorkedOff.__struct_fields__ if name != "phase"}
    if scenario.allocated:
        found |= {"allocator.workers_max", "allocator.turns"}
    measured = [phase.name for phase in scenario.phases if phase.measured]
    return found | {f"{phase}.{name}" for phase in measured for name in _of_phase(scenario, shards)}


def _of_phase(scenario: Scenario, shards: Iterable[str]) -> Iterator[str]:
    ways = list(_INTAKE)
    if scenario.sends:
        ways += [*(_SMS if scenario.mix.sms_share else ()), *(_MAIL if scenario.mix.mail_share else ())]
    ways += [f"{way}_{shard}" for way in BY_SHARD if way in ways for shard in shards]
    yield from (f"{way}.{name}" for way in ways for name in Latency.__struct_fields__ if name != "histogram")
    yield "orders_per_s"
    yield from (f"lag_s.{name}" for name in ("committed", *(("sms", "mail") if scenario.sends else ())))
    if scenario.allocated:
        yield from (f"allocator.{name}" for name in ("workers", "changes", "workers_added"))
