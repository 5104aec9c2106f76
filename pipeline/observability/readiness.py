"""Whether a process is ready, and every reason why it is not."""

from collections.abc import Callable, Iterable
from enum import Enum

import msgspec


class Phase(Enum):
    """Where a process is in its life."""

    STARTING = "starting"
    RUNNING = "running"
    DRAINING = "draining"


class Cause(msgspec.Struct, frozen=True, omit_defaults=True):
    """A reason why a process is not ready, as /readyz says it: no personal data.

    `cause`: starting, draining, broker, primary. `what`: which queue or shard. `is_blocking`: False for what
    impairs a process that goes on with the rest.
    """

    cause: str
    detail: str
    what: str = ""
    is_blocking: bool = True


CAUSES = ("starting", "draining", "broker", "primary")
Check = Callable[[], Iterable[Cause]]
"""Returns the causes that a part of the process knows of. Called by another thread: it only reads."""


class Readiness:
    """What a process says of itself. Mutable state: `phase`, `checks`.

    Also the most upstream service: when it starts, all others run; it is the first to be told to drain.
    """

    name = "readiness"

    def __init__(self) -> None:
        self.phase = Phase.STARTING
        self.checks: list[Check] = []

    def __repr__(self) -> str:
        return f"Readiness({self.phase.value}, {self.causes()})"

    @property
    def is_ready(self) -> bool:
        """Whether work may be sent here."""
        return not any(cause.is_blocking for cause in self.causes())

    def causes(self) -> list[Cause]:
        """Return every cause there is. May be called by any thread."""
        found = [cause for check in list(self.checks) for cause in check()]
        match self.phase:
            case Phase.STARTING:
                return [Cause("starting", "not everything has been started"), *found]
            case Phase.DRAINING:
                return [Cause("draining", "told to stop: what is here is finished, nothing new is taken")]
            case Phase.RUNNING:
                return found

    # --- as a service ---------------------------------------------------------------------------------

    async def start(self) -> None:
        """Say that everything runs, unless told to stop meanwhile."""
        if self.phase is Phase.STARTING:
            self.phase = Phase.RUNNING

    async def drain(self) -> None:
        """Say that nothing new is taken."""
        self.phase = Phase.DRAINING

    async def stop(self) -> None:
        """Do nothing: the process ends."""
