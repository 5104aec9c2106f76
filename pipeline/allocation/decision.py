"""One decision: the bottleneck, and at most one change of one lever, with its reason."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any, Final, NamedTuple

import msgspec

from pipeline.allocation.bottleneck import Bottleneck, bottleneck_of, has_backlog
from pipeline.allocation.bounds import Allocation, Bounds
from pipeline.allocation.observation import Observation

_BATCHES_FULL: Final = 0.8
_WINDOW_SLACK: Final = 0.2
_NEVER: Final = float("-inf")


class Lever(StrEnum):
    """What a decision changes."""

    NONE = "none"
    WORKERS = "workers"
    PREFETCH = "prefetch"
    BATCH = "batch_max"


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What an allocator remembers. Times are of the observations' clock.

    `changed_at_s`: the last change. The others: since when without a break the bottleneck is the same, a
    worker is one too many, the window is little used, and transactions take too long; None: not so at the
    moment.
    """

    allocation: Allocation
    bottleneck: Bottleneck = Bottleneck.NONE
    changed_at_s: float = _NEVER
    same_since_s: float | None = None
    spare_since_s: float | None = None
    slack_since_s: float | None = None
    slow_since_s: float | None = None


class Decision(NamedTuple):
    """What was decided. `state`: to be handed in the next time, with the allocation from now on."""

    state: State
    lever: Lever
    reason: str

    @property
    def bottleneck(self) -> Bottleneck:
        """What limits the pipeline."""
        return self.state.bottleneck

    @property
    def allocation(self) -> Allocation:
        """What the workers get from now on."""
        return self.state.allocation


class _Change(NamedTuple):
    lever: Lever
    value: int
    why: str


_Rule = Callable[[Observation, State, Bounds], _Change | None]


def decide(seen: Observation, state: State, bounds: Bounds) -> Decision:
    """Decide, once for each observation. The same arguments give the same decision.

    One lever is moved at a time, by one step, not before `settle_s` have passed since the last one, and not
    while a worker that was asked for has not come up: what a change brings is seen before the next.
    """
    if seen.running != state.allocation.workers:
        why = f"{seen.running} of {state.allocation.workers} workers are up"
        return Decision(_forgotten(state, same_since_s=None), Lever.NONE, why)
    state = _noted(seen, state, bounds)
    if seen.at_s - state.changed_at_s < bounds.settle_s:
        return Decision(state, Lever.NONE, "the last change is new")
    for rule in _RULES:
        change = rule(seen, state, bounds)
        if change is not None and (decision := _changed(seen, state, bounds, change)) is not None:
            return decision
    return Decision(state, Lever.NONE, _described(seen, state, bounds))


def _changed(seen: Observation, state: State, bounds: Bounds, change: _Change) -> Decision | None:
    """Return the decision to change something; None when that lever is at its bound."""
    wanted = msgspec.structs.replace(state.allocation, **{change.lever.value: change.value})
    allocation = bounds.within(wanted)
    if allocation == state.allocation:
        return None
    state = _forgotten(state, allocation=allocation, changed_at_s=seen.at_s)
    return Decision(state, change.lever, change.why)


# --- what is remembered ---------------------------------------------------------------------------------


def _noted(seen: Observation, state: State, bounds: Bounds) -> State:
    """Return the state with since when things are as they are."""
    given = state.allocation
    bottleneck = bottleneck_of(seen, given, bounds)
    is_same = bottleneck is state.bottleneck and state.same_since_s is not None

    def since(before: float | None, *, holds: bool) -> float | None:
        return (seen.at_s if before is None else before) if holds else None

    return msgspec.structs.replace(
        state,
        bottleneck=bottleneck,
        same_since_s=state.same_since_s if is_same else seen.at_s,
        spare_since_s=since(state.spare_since_s, holds=_is_spare(seen, state, bounds)),
        slack_since_s=since(state.slack_since_s, holds=seen.window_used < _WINDOW_SLACK and not seen.ready),
        slow_since_s=since(state.slow_since_s, holds=_is_slow(seen, bounds)),
    )


def _forgotten(state: State, **changes: Any) -> State:
    """Return the state without what a change, or a worker that is missing, makes worthless."""
    return msgspec.structs.replace(
        state, spare_since_s=None, slack_since_s=None, slow_since_s=None, **changes
    )


def _is_spare(seen: Observation, state: State, bounds: Bounds) -> bool:
    """Whether the others could do one worker's share as well, and nothing waits."""
    workers = state.allocation.workers
    if workers <= 1 or seen.ready is None or has_backlog(seen, state.allocation, bounds):
        return False
    return seen.worker_cpu * workers / (workers - 1) <= bounds.cpu_low


def _is_slow(seen: Observation, bounds: Bounds) -> bool:
    return seen.write_s is not None and seen.write_s > bounds.write_s and seen.batch_fill >= _BATCHES_FULL


# --- rules, the most urgent first -----------------------------------------------------------------------


def _more_workers(seen: Observation, state: State, bounds: Bounds) -> _Change | None:
    if not _lasts(seen, state, bounds, Bottleneck.WORKERS):
        return None
    why = f"workers use {seen.worker_cpu:.0%} of a core, and {seen.work_s:.1f} s of work wait"
    return _Change(Lever.WORKERS, state.allocation.workers + 1, why)


def _larger_window(seen: Observation, state: State, bounds: Bounds) -> _Change | None:
    if not _lasts(seen, state, bounds, Bottleneck.PREFETCH):
        return None
    why = f"{seen.window_used:.0%} of the prefetch is used, and workers have time"
    return _Change(Lever.PREFETCH, 2 * state.allocation.prefetch, why)


def _larger_batches(seen: Observation, state: State, bounds: Bounds) -> _Change | None:
    """Ask for half as much again while that keeps transactions short."""
    if not _lasts(seen, state, bounds, Bottleneck.SHARDS) or seen.batch_fill < _BATCHES_FULL:
        return None
    if seen.write_s is None or seen.write_s > bounds.write_s / 2:
        return None
    why = f"batches are full, {seen.lanes:.1f} wait, and one takes {seen.write_s * 1e3:.0f} ms"
    return _Change(Lever.BATCH, state.allocation.batch_max * 3 // 2 + 1, why)


def _smaller_batches(seen: Observation, state: State, bounds: Bounds) -> _Change | None:
    if not _for(seen, state.slow_since_s, bounds.grow_after_s) or seen.write_s is None:
        return None
    why = f"a full batch takes {seen.write_s * 1e3:.0f} ms"
    return _Change(Lever.BATCH, state.allocation.batch_max * 2 // 3, why)


def _fewer_workers(seen: Observation, state: State, bounds: Bounds) -> _Change | None:
    if not _for(seen, state.spare_since_s, bounds.shrink_after_s):
        return None
    why = f"workers use {seen.worker_cpu:.0%} of a core, and nothing waits"
    return _Change(Lever.WORKERS, state.allocation.workers - 1, why)


def _smaller_window(seen: Observation, state: State, bounds: Bounds) -> _Change | None:
    if not _for(seen, state.slack_since_s, bounds.shrink_after_s):
        return None
    why = f"{seen.window_used:.0%} of the prefetch is used"
    return _Change(Lever.PREFETCH, state.allocation.prefetch // 2, why)


_RULES: Final[tuple[_Rule, ...]] = (
    _smaller_batches,
    _more_workers,
    _larger_window,
    _larger_batches,
    _fewer_workers,
    _smaller_window,
)


def _lasts(seen: Observation, state: State, bounds: Bounds, bottleneck: Bottleneck) -> bool:
    return state.bottleneck is bottleneck and _for(seen, state.same_since_s, bounds.grow_after_s)


def _for(seen: Observation, since_s: float | None, at_least_s: float) -> bool:
    return since_s is not None and seen.at_s - since_s >= at_least_s


def _described(seen: Observation, state: State, bounds: Bounds) -> str:
    match state.bottleneck:
        case Bottleneck.NONE:
            return "nothing waits for long"
        case Bottleneck.SMS | Bottleneck.EMAIL:
            return f"{state.bottleneck}: its provider is the limit, and more workers would not help"
        case Bottleneck.MACHINE:
            return f"{seen.machine_cpu:.0%} of the machine is busy, and more processes would take turns"
        case Bottleneck.WORKERS if state.allocation.workers >= bounds.ceiling.workers:
            return f"{seen.work_s:.1f} s of work wait, and there are as many workers as there may be"
        case Bottleneck.BROKER if seen.ready is None:
            return "the broker does not say what waits"
        case _:
            return f"{state.bottleneck}: {seen.work_s:.1f} s of work wait"
