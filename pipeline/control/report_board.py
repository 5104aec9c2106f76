"""Where processes say how they are: on the first home that answers. Whoever reads looks at all homes."""

from typing import Final

from pipeline.clock import Clock
from pipeline.control.homes import ask_first, homes
from pipeline.storage.cluster import Cluster
from pipeline.storage.control import ProcessName, ProcessReport, Report
from pipeline.storage.partial import of_each
from pipeline.storage.shard import Shard

CURRENT_S: Final = 10.0
"""A process that has said nothing for longer is gone, or cannot say anything."""
_TIMEOUT_S: Final = 1.0
_AVOID_S: Final = 30.0  # a home that did not answer is asked last for so long


class ReportBoard:
    """Writes and reads reports. Mutable state: `_avoided`, until when each home is asked last."""

    def __init__(self, cluster: Cluster, clock: Clock) -> None:
        self._cluster = cluster
        self._clock = clock
        self._avoided: dict[str, float] = {}

    async def write(self, process: ProcessName, report: Report) -> str:
        """Write a process's report; return where. Raises StorageUnavailableError when no home answers."""

        async def write(shard: Shard) -> None:
            try:
                await shard.control.report(process, report)
            except BaseException:  # also when its time is over
                self._avoided[shard.name] = self._clock.monotonic() + _AVOID_S
                raise
            self._avoided.pop(shard.name, None)

        now = self._clock.monotonic()
        in_turn = sorted(homes(self._cluster), key=lambda home: self._avoided.get(home.name, now) > now)
        name, _ = await ask_first(in_turn, write, timeout_s=_TIMEOUT_S)
        return name

    async def forget(self, process_id: str) -> None:
        """Take a report off every home. Raises StorageUnavailableError when none answers."""

        async def forget(shard: Shard) -> None:
            await shard.control.forget(process_id)

        await of_each(homes(self._cluster), forget, timeout_s=_TIMEOUT_S)

    async def ids(self, role: str) -> set[str]:
        """Return the ids of the processes with a role that have said something lately.

        Raises StorageUnavailableError when no home answers.
        """

        async def read(shard: Shard) -> list[str]:
            return await shard.control.reporting(role, CURRENT_S)

        found = await of_each(homes(self._cluster), read, timeout_s=_TIMEOUT_S)
        return {process_id for some in found.answers.values() for process_id in some}

    async def read(self) -> list[ProcessReport]:
        """Return the last report of each process of the last ten minutes, by process id.

        Raises StorageUnavailableError when no home answers.
        """

        async def read(shard: Shard) -> list[ProcessReport]:
            return await shard.control.reports()

        found: dict[str, ProcessReport] = {}
        seen = await of_each(homes(self._cluster), read, timeout_s=_TIMEOUT_S)
        for reports in seen.answers.values():
            for report in reports:
                known = found.get(report.process.process_id)
                if known is None or report.age_s < known.age_s:
                    found[report.process.process_id] = report
        return [found[process_id] for process_id in sorted(found)]
