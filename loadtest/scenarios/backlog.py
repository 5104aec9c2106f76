"""How a backlog was worked off: the stretch of time it took, and what was done in it."""

from collections.abc import Sequence
from itertools import pairwise

import msgspec

from loadtest.scenarios.figures import PhaseFigures, cores_between, gained_per_s
from loadtest.scenarios.observation import Observation
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import PartHeld

_BEGIN_SHARE, _END_SHARE = 0.02, 0.98
"""What a process does while it starts, and what trickles in at the end, is no part of the stretch."""


class WorkedOff(msgspec.Struct, frozen=True, kw_only=True):
    """Means over the stretch in which most of a backlog went, by what is done a second."""

    phase: str
    seconds: float
    events_per_s: float
    orders_per_s: float
    invoices_per_s: float
    sms_per_s: float
    mails_per_s: float
    messages_per_s: float


def draining(seen: Observation, phases: Sequence[PhaseFigures]) -> PhaseFigures | None:
    """Return the phase after that in which a part was held, cut to the time it worked the backlog off.

    Its end is after the phase's own when the backlog outlasts it. None: no part was held, or nothing moved.
    """
    for span, following in pairwise(seen.spans):
        if any(isinstance(fault, PartHeld) for fault in span.phase.faults):
            phase = next((phase for phase in phases if phase.name == following.phase.name), None)
            return _cut(phase, seen.samples) if phase is not None else None
    return None


def _cut(phase: PhaseFigures, samples: Sequence[Sample]) -> PhaseFigures | None:
    after = [sample for sample in samples if sample.at_s >= phase.begin_s]
    if len(after) < 2:  # noqa: PLR2004  # a rate needs two readings
        return None
    first, gained = _done(after[0]), _done(after[-1]) - _done(after[0])
    if gained <= 0:
        return None
    begin_s = max(sample.at_s for sample in after if _done(sample) <= first + _BEGIN_SHARE * gained)
    end_s = min(sample.at_s for sample in after if _done(sample) >= first + _END_SHARE * gained)
    cores, machine = cores_between(list(samples), begin_s, end_s)
    return msgspec.structs.replace(
        phase, begin_s=begin_s, end_s=end_s, cores=cores, machine_cores=machine, lag_s={}
    )


def _done(sample: Sample) -> int:
    return sample.committed + sample.sms + sample.mails


def worked_off(drain: PhaseFigures, samples: list[Sample]) -> WorkedOff:
    """Return what was done in a stretch."""

    def rate(count: str) -> float:
        return round(gained_per_s(samples, drain.begin_s, drain.end_s, count), 1)

    return WorkedOff(
        phase=drain.name,
        seconds=round(drain.end_s - drain.begin_s, 1),
        events_per_s=rate("committed"),
        orders_per_s=rate("orders"),
        invoices_per_s=rate("invoices"),
        sms_per_s=rate("sms"),
        mails_per_s=rate("mails"),
        messages_per_s=round(rate("sms") + rate("mails"), 1),
    )
