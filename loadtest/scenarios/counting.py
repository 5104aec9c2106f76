"""What there was before a run and after it: the sums, the way of each order, and what the stand-ins took."""

import asyncio
from collections.abc import Mapping

import numpy as np

from consumers.status import Status, read_status
from loadtest.scenarios.arrivals import Arrivals, Floats
from loadtest.scenarios.conservation import conservation_of
from loadtest.scenarios.generator_process import Sent
from loadtest.scenarios.ledger import Traces, traces
from loadtest.scenarios.observation import Observation, Span, published_of
from loadtest.scenarios.readiness import Opened
from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import LoadTestError, Scenario
from loadtest.scenarios.servers import clock_lead_s, clock_offset_s
from loadtest.scenarios.sightings import Sightings
from loadtest.scenarios.target import Target

_QUIET_TIMEOUT_S = 120.0
_POLL_S = 0.5


class Counting:
    """Counts before and after a run. Mutable state: what was counted before, and what went wrong since."""

    def __init__(self, scenario: Scenario, target: Target, opened: Opened, arrivals: Arrivals) -> None:
        self._scenario = scenario
        self._target = target
        self._opened = opened
        self._arrivals = arrivals
        self._orders = len(arrivals.order_times())
        self._before: Status | None = None
        self._clock_error_s = 0.0
        self._clock_lead_s = clock_lead_s()
        self._failures: list[str] = []

    async def begin(self) -> None:
        """Wait until nothing is under way, and count. Raises LoadTestError, StorageUnavailableError."""
        self._before = await self._quiet()
        if self._opened.stand_ins is not None:
            await self._opened.stand_ins.begin(self._orders)
        for shard in self._opened.cluster:
            ahead_s, error_s = await clock_offset_s(shard.primary)
            self._clock_error_s = max(self._clock_error_s, abs(ahead_s) + error_s)

    async def _quiet(self) -> Status:
        """Return the status once nothing waits: what is under way would be counted as ours."""
        try:
            async with asyncio.timeout(_QUIET_TIMEOUT_S if self._target.own else _POLL_S * 10):
                while True:
                    found = await read_status(self._target.settings, self._opened.cluster)
                    if self._is_quiet(found):
                        return found
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise LoadTestError(
                "events or messages are under way already, and would be counted as this test's: wait until "
                "`postorder status` shows none, or leave --config out"
            ) from None

    def _is_quiet(self, found: Status) -> bool:
        waiting = sum(queue.messages for queue in found.queues)
        return waiting == 0 and (found.accounting.open == 0 or not self._scenario.sends)

    def note_failures(self, ended: list[str], generator: str, sampling: "asyncio.Task[None]") -> None:
        """Note what broke while it ran: parts that ended, the generator, the sampler."""
        self._failures += ended
        if generator:
            self._failures.append(f"the load generator failed: {generator}")
        if not sampling.cancelled() and (error := sampling.exception()) is not None:
            self._failures.append(f"the sampler failed: {error}")

    async def end(
        self, sightings: Sightings, sent: Sent, spans: list[Span], samples: list[Sample], *, interrupted: bool
    ) -> Observation:
        """Count again; return everything seen."""
        opened, sends = self._opened, self._scenario.sends
        found = await traces(opened.cluster, sightings, opened.bodies, self._orders)
        after = await read_status(self._target.settings, opened.cluster)
        sms_at, mail_at, source = await self._accepted(found)
        assert self._before is not None
        published = published_of(self._arrivals, sent)
        conservation = conservation_of(
            published,
            self._before.accounting,
            after.accounting,
            orders_in_tables=found.stored,
            sends=sends,
            unknown=sum(count for state, count in found.states.items() if state.endswith(".unknown")),
            sent_twice=await opened.stand_ins.duplicates() if opened.stand_ins else None,
            unaccepted=self._unaccepted(found, sms_at, mail_at) if source == STAND_INS else None,
        )
        return Observation(
            scenario=self._scenario,
            spans=spans,
            arrivals=self._arrivals,
            sent=sent,
            traces=found,
            sms_at=sms_at,
            mail_at=mail_at,
            source=source,
            samples=samples,
            conservation=conservation,
            resolution_s=sightings.resolution_s,
            clock_error_s=self._clock_error_s,
            interrupted=interrupted,
            failures=[*self._failures, *self._opened.parts.failures()],
            clock_step_s=clock_lead_s() - self._clock_lead_s,
        )

    async def _accepted(self, found: Traces) -> tuple[Floats | None, Floats | None, str]:
        if not self._scenario.sends:
            return None, None, "nothing is sent"
        stand_ins = self._opened.stand_ins
        if stand_ins is None:
            moments: Mapping[str, Floats] = found.moments
            return moments["sms_accepted"], moments["mail_accepted"], "the ledger"
        await stand_ins.read()
        return stand_ins.sms.at, stand_ins.mails.at, STAND_INS

    def _unaccepted(self, found: Traces, sms_at: Floats | None, mail_at: Floats | None) -> int:
        """Return how many messages of stored orders nobody took, of those that have somewhere to go."""
        stored = ~np.isnan(found.committed)
        channels = ((sms_at, self._arrivals.with_phone), (mail_at, self._arrivals.with_address))
        return sum(
            int(np.count_nonzero(stored & owed & np.isnan(at))) for at, owed in channels if at is not None
        )


STAND_INS = "the stand-ins' own logs"
"""Who says when messages were accepted, where there are stand-ins."""
