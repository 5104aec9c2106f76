"""How many calls at once a provider can take, found as TCP finds its window: up by steps, down by more."""

from typing import Final, NamedTuple

_SAMPLES_MIN: Final = 16
_BASELINE_RISE: Final = 0.02  # of the difference, for each set of answers: some fifty sets to get used to it
_OVERLOADED: Final = 0.5  # 429, time-outs, no connection
_SLOWER: Final = 0.8  # answers take longer
_RISE_SHARE: Final = 8  # of the limit: when answers take seconds, so do sets, and steps of one came too late
_HELPED: Final = 0.9  # of the time before: with a queue at the provider, a fifth fewer calls make it 0.8
_WEIGHT: Final = 1 / 16  # of an answer in the moving average
_USED: Final = 0.75  # whoever does not use what is allowed learns nothing about more


class _Trial(NamedTuple):
    """A limit that was lowered because answers were slow, and their median: fewer calls should better it."""

    limit: int
    median_s: float


class AdaptiveLimit:
    """Up by an eighth, down by a fifth or a half, between `floor` and `ceiling`.

    Answers are judged in sets as large as the limit. A set whose median took `rise` times the usual time, and
    `tolerance_s` longer, lowers the limit by a fifth; any other raises it by an eighth, or by one. If the
    answers to fewer calls are no faster, it was not the calls that made them slow: the limit is as before,
    and the slow time the usual one. Else it follows a faster median at once and a slower one slowly. A
    refusal for load or a failure halves the limit, once for all calls that were under way together. Mutable
    state: `limit`, `typical_s` (a moving average of answers, which grows from 0 so that nobody is surprised
    by it) and everything below.
    """

    def __init__(self, floor: int, ceiling: int, *, rise: float, tolerance_s: float) -> None:
        self.floor = floor
        self.ceiling = ceiling
        self._rise = rise
        self._tolerance_s = tolerance_s
        self.limit = max(floor, ceiling // 2)
        self.typical_s = 0.0
        self._usual_s: float | None = None
        self._samples: list[float] = []
        self._most = 0
        self._lowered_at = float("-inf")
        self._trial: _Trial | None = None
        self._begun_before = 0

    def __repr__(self) -> str:
        return (
            f"AdaptiveLimit({self.limit} of {self.floor} to {self.ceiling}, {self.typical_s * 1000:.0f} ms)"
        )

    def cap(self, ceiling: int) -> None:
        """Have another ceiling from now on; the limit itself only goes down at once."""
        self.ceiling = max(self.floor, ceiling)
        self.limit = min(self.limit, self.ceiling)

    def answered(self, took_s: float, in_flight: int) -> None:
        """Note an answer in time, and how many calls there were while it was waited for."""
        self.typical_s += (took_s - self.typical_s) * _WEIGHT
        if self._begun_before:  # before the limit was lowered: it says nothing of the new one
            self._begun_before -= 1
            return
        samples = self._samples
        samples.append(took_s)
        self._most = max(self._most, in_flight)
        if len(samples) >= _SAMPLES_MIN and len(samples) >= self.limit:
            self._judge(in_flight)

    def overloaded(self, started_at: float, now: float) -> None:
        """Note a call that the provider refused for load, or did not answer."""
        if started_at <= self._lowered_at:
            return  # under way when the limit was lowered: it says nothing of the new one
        self._lowered_at = now
        self._trial = None  # were it lost, the limit would go back to what has just been too much
        self._lower(_OVERLOADED)

    def _judge(self, in_flight: int) -> None:
        samples, self._samples = sorted(self._samples), []
        most, self._most = self._most, 0
        median_s = samples[len(samples) // 2]
        usual_s = self._usual_s
        if usual_s is None or median_s <= usual_s:
            self._usual_s = usual_s = median_s
        else:
            self._usual_s = usual_s + _BASELINE_RISE * (median_s - usual_s)
        trial, self._trial = self._trial, None
        if median_s <= self._rise * usual_s or median_s - usual_s <= self._tolerance_s:
            if most >= _USED * self.limit:
                self.limit = min(self.ceiling, self.limit + max(1, self.limit // _RISE_SHARE))
        elif trial is None or median_s <= _HELPED * trial.median_s:
            self._trial = _Trial(self.limit, median_s)
            self._begun_before = in_flight
            self._lower(_SLOWER)
        else:
            self.limit = min(self.ceiling, trial.limit)
            self._usual_s = median_s

    def _lower(self, factor: float) -> None:
        self.limit = max(self.floor, int(self.limit * factor))
        self._samples.clear()
