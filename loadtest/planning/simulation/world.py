"""The simulated installation: slots on shards by the real ring, each shard a queue worked off in order.

Not events are simulated but parcels: what comes for one shard in one tick. A parcel takes its events divided
by the shard's events per second; everything else that takes time is in `Installation.idle_s`. Copying slots,
and what a move costs in CPU, is not simulated.
"""

from collections import deque
from collections.abc import Generator, Iterable
from typing import Any, NamedTuple

import msgspec
import numpy as np
import simpy
from numpy.typing import NDArray

from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT

Floats = NDArray[np.float64]
Process = Generator[simpy.Event, Any, None]
TRIP_DELAYS_S = (1, 5, 5, 30, 30, 30, 300)
"""How long a parked message rests, by how often it was parked: as consumers/parking.py has it."""
PARK_AFTER_S = 2.0
"""`intake.park_after_s`."""


class Installation(msgspec.Struct, frozen=True, kw_only=True):
    """What is simulated. `shard_per_s`: events one shard can store; `idle_s`: a commit without a queue."""

    shards: int
    events_per_s: float
    shard_per_s: float
    idle_s: float
    tick_s: float = 0.1
    seed: int = 1


class Parcel(NamedTuple):
    """Events of one shard that came in one tick, in its middle on average."""

    at_s: float
    events: int
    trips: int = 0


class Written(NamedTuple):
    """Every parcel that was committed, in columns. `affected`: something happened to its slot or shard."""

    at_s: Floats
    shard: NDArray[np.int64]
    events: Floats
    latency_s: Floats
    affected: NDArray[np.bool_]


class World:
    """The simulation. Mutable state: rates, owners, what is held back, and what was committed.

    `affected_shards`: whose events count as affected, besides those of slots that moved.
    """

    def __init__(self, installation: Installation, shard_map: ShardMap, names: Iterable[str]) -> None:
        self.env = simpy.Environment()
        self.given = installation
        self.index = {name: number for number, name in enumerate(names)}
        self.owners = np.array([self.index[owner] for owner in shard_map.owners])
        self.slot_per_s: Floats = np.full(SLOT_COUNT, installation.events_per_s / SLOT_COUNT)
        self.stations = [Station(self, number, installation.shard_per_s) for number in range(len(self.index))]
        self.affected_shards: set[int] = set()
        self.came = 0
        self._held: dict[int, list[Parcel]] = {}
        self._moved: NDArray[np.bool_] = np.zeros(SLOT_COUNT, dtype=bool)
        self._random = np.random.default_rng(installation.seed)
        self._done = 0
        self._until_s = 0.0
        self._rows: list[tuple[float, int, int, float, bool]] = []
        self.env.process(self._arrivals())

    def run(self, seconds: float) -> Written:
        """Let events come for so long, and let all of them be committed; return them."""
        self._until_s = seconds
        self.env.run()
        columns = list(zip(*self._rows, strict=True)) or [()] * len(Written._fields)
        return Written(
            np.array(columns[0]),
            np.array(columns[1], dtype=np.int64),
            np.array(columns[2], dtype=np.float64),
            np.array(columns[3]),
            np.array(columns[4], dtype=bool),
        )

    def hold(self, slots: Iterable[int]) -> None:
        """Take no writes for these slots: their events wait in memory."""
        self._held |= {slot: [] for slot in slots}

    def give(self, slots: Iterable[int], target: str) -> None:
        """Let slots belong to another shard from now on, and hand it what waited."""
        for slot in slots:
            self.owners[slot] = self.index[target]
            self._moved[slot] = True
            for parcel in self._held.pop(slot):
                self.stations[self.index[target]].put(parcel, affected=True)

    def note(self, parcel: Parcel, shard: int, *, affected: bool) -> None:
        """Take down a commit."""
        latency_s = self.env.now - parcel.at_s + self.given.idle_s
        is_affected = affected or shard in self.affected_shards
        self._done += parcel.events
        self._rows.append((parcel.at_s, shard, parcel.events, latency_s, is_affected))

    @property
    def waiting(self) -> int:
        """Events that are in a queue, held back or parked."""
        return self.came - self._done

    def _arrivals(self) -> Process:
        tick_s = self.given.tick_s
        while self.env.now < self._until_s - tick_s / 2:
            yield self.env.timeout(tick_s)
            at_s = self.env.now - tick_s / 2
            rates = self.slot_per_s.copy()
            for slot, parcels in self._held.items():
                if events := int(self._random.poisson(rates[slot] * tick_s)):
                    parcels.append(Parcel(at_s, events))
                    self.came += events
                rates[slot] = 0.0
            for moved in (False, True):
                here = rates * (self._moved == moved)
                per_shard = np.bincount(self.owners, weights=here, minlength=len(self.stations))
                for number, events in enumerate(self._random.poisson(per_shard * tick_s).tolist()):
                    if events:
                        self.came += events
                        self.stations[number].put(Parcel(at_s, events), affected=moved)


class Station:
    """One shard: a queue, worked off in order. Mutable state: the queue, and since when it is away."""

    def __init__(self, world: World, number: int, per_s: float) -> None:
        self.per_s = per_s
        self.busy_s = 0.0
        self._world = world
        self._number = number
        self._queue: deque[tuple[Parcel, bool]] = deque()
        self._idle: simpy.Event | None = None
        self._down_since: float | None = None
        world.env.process(self._work())

    def put(self, parcel: Parcel, *, affected: bool = False) -> None:
        """Append a parcel."""
        self._queue.append((parcel, affected))
        if self._idle is not None:
            self._idle.succeed()
            self._idle = None

    def fail(self) -> None:
        """Be away from now on."""
        self._down_since = self._world.env.now

    def come_back(self, per_s: float) -> None:
        """Be there again, at a speed."""
        self._down_since = None
        self.per_s = per_s

    def _work(self) -> Process:
        env = self._world.env
        while True:
            if not self._queue:
                self._idle = env.event()
                yield self._idle
            parcel, affected = self._queue.popleft()
            if self._down_since is not None:
                # Who waits longer than this goes back to the broker; once it is known to be away, at once.
                yield env.timeout(max(0.0, self._down_since + PARK_AFTER_S - env.now))
            if self._down_since is not None:
                env.process(self._parked(parcel, affected=affected))
                continue
            took_s = parcel.events / self.per_s
            self.busy_s += took_s
            yield env.timeout(took_s)
            self._world.note(parcel, self._number, affected=affected)

    def _parked(self, parcel: Parcel, *, affected: bool) -> Process:
        delay_s = TRIP_DELAYS_S[min(parcel.trips, len(TRIP_DELAYS_S) - 1)]
        yield self._world.env.timeout(delay_s)
        self.put(parcel._replace(trips=parcel.trips + 1), affected=affected)
