"""One run of `up`: ports are chosen, and what does not run is started."""

import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from threading import Event, Lock

from stack.components import component_names, port_owners, server_names
from stack.emulators import NAMES as EMULATORS
from stack.emulators import start_emulator
from stack.ha_servers import HaServers, postmasters
from stack.ports import Reservations, choose_port
from stack.postgres import Pair
from stack.postgres_programs import runnable_binaries
from stack.privileges import Account
from stack.process import Running, end, end_component, end_strays
from stack.rabbitmq import RabbitNode
from stack.state import ShardConfig, StackState, save_state

Progress = Callable[[str], None]


class Launch:
    """One run of `up`."""

    def __init__(
        self, data_dir: Path, state: StackState, account: Account | None, progress: Progress
    ) -> None:
        self._data_dir = data_dir
        self._state = state
        self._account = account
        self._progress = progress
        self._servers = Path(state.server_dir)
        self._noting = Lock()  # components start in threads side by side
        self._interrupted = Event()
        self._ha = HaServers(state, account, self._note, progress)
        # A PostgreSQL server whose Patroni was killed goes on, and still has its port.
        self._kept = postmasters(state) if state.ha else {}

    def run(self) -> None:
        """Start all that does not run. KeyboardInterrupt comes out when what is under way has ended."""
        # A launcher that was killed may have left servers that the state does not know.
        strays = end_strays(self._servers, [*self._state.alive.values(), *self._kept.values()])
        if strays:
            self._progress(f"killed {strays} processes that an earlier start had left")
        self._prepare_folder()
        self._follow_promotions()
        with Reservations() as reserved:  # until every server has its port
            self._choose_ports(reserved)
            self._start_all()

    def _start_all(self) -> None:
        node = self._rabbit_node()
        with ThreadPoolExecutor() as pool:
            try:
                for future in self._begin(pool, node):
                    future.result()
            except KeyboardInterrupt:
                self._interrupted.set()
                pool.shutdown(wait=False, cancel_futures=True)
                self._progress("interrupted: waiting for the steps under way to end")
                raise

    def _begin(self, pool: Executor, node: RabbitNode) -> list[Future[None]]:
        rabbit = pool.submit(self._start_rabbit, node)
        if self._state.ha:
            pairs = [pool.submit(self._ha.start)]
        else:
            pairs = [pool.submit(self._start_pair, self.pair(shard)) for shard in self._state.shards]
        emulators = [pool.submit(self._start_emulator, name) for name in EMULATORS]
        return [rabbit, *pairs, *emulators]

    @property
    def is_done(self) -> bool:
        """Whether everything runs, and in its role."""
        return set(self._state.alive) == set(component_names(self._state)) and not self._promoted()

    def reconfigure(self, shards: list[ShardConfig]) -> None:
        """Apply other settings to pairs that run."""
        self._state.shards = shards
        save_state(self._data_dir, self._state)
        if self._state.ha:
            for pair in self._ha.pairs():
                pair.reconfigure()
                self._progress(f"{pair.name}: settings applied")
            return
        for shard in shards:
            self.pair(shard).reconfigure(self._state.alive[f"{shard.name}-primary"])
            self._progress(f"{shard.name}: settings applied")

    def _prepare_folder(self) -> None:
        self._servers.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._account:
            self._servers.chmod(0o700)
            # Only the folder itself: what is in it has been handed over piece by piece.
            shutil.chown(self._servers, self._account.uid, self._account.gid)

    def _promoted(self) -> list[Pair]:
        """Return the pairs whose replica was made the primary by hand."""
        if self._state.ha:
            return []
        # One without a port is new: it was never started.
        made = [shard for shard in self._state.shards if f"{shard.name}-primary" in self._state.ports]
        return [pair for pair in map(self.pair, made) if pair.was_promoted]

    def _follow_promotions(self) -> None:
        """Let promoted replicas keep their ports under the name of primary."""
        for pair in self._promoted():
            ports = self._state.ports
            names = server_names(pair.name, ha=False)
            for name in names:
                if name in self._state.alive:
                    end_component(name, self._state.alive[name])
            primary, replica = names
            self._state.ports = {**ports, primary: ports[replica], replica: ports[primary]}
            save_state(self._data_dir, self._state)
            pair.follow_promotion()
            self._progress(
                f"{pair.name}: its replica was promoted; the old primary's data is kept as superseded"
            )

    def _choose_ports(self, reserved: Reservations) -> None:
        """Choose a port for each component that does not run; the others keep theirs."""
        owners = port_owners(self._state)
        alive = self._state.alive
        ports = {name: self._state.ports[name] for name, owner in owners.items() if owner in alive}
        ports |= {name: self._state.ports[name] for name in self._kept}
        for name in owners:
            if name not in ports:
                before = self._state.ports.get(name)
                ports[name] = choose_port(name, set(ports.values()), before, reserved)
        self._state.ports = ports
        save_state(self._data_dir, self._state)

    def _note(self, running: Mapping[str, Running]) -> None:
        with self._noting:
            self._state.running = {**self._state.running, **running}
            save_state(self._data_dir, self._state)

    def _is_up(self, name: str) -> bool:
        return name in self._state.alive

    # --- RabbitMQ ---------------------------------------------------------------------------------

    def _rabbit_node(self) -> RabbitNode:
        return RabbitNode(
            self._servers / "rabbitmq",
            ports=self._state.ports,
            password=self._state.secrets["amqp"],
            cookie=self._state.secrets["erlang_cookie"],
            account=self._account,
        )

    def _start_rabbit(self, node: RabbitNode) -> None:
        if self._is_up("rabbitmq") and self._is_up("epmd"):
            return
        if self._is_up("rabbitmq"):
            # A node whose name server is gone cannot be found by its own tools.
            end(self._state.alive["rabbitmq"])
        self._progress("starting RabbitMQ")
        node.prepare()
        if not self._is_up("epmd"):
            self._note({"epmd": node.start_epmd()})
        server = node.start()
        self._note({"rabbitmq": server})
        node.wait(server, self._interrupted.is_set)
        if self._interrupted.is_set():
            return  # it goes on by itself
        self._progress(f"RabbitMQ is ready on port {self._state.ports['amqp']}")

    # --- PostgreSQL -------------------------------------------------------------------------------

    def pair(self, shard: ShardConfig) -> Pair:
        """Return a shard's plain pair."""
        return Pair(
            shard.name,
            self._servers / shard.name,
            ports=self._state.ports,
            passwords=self._state.secrets,
            bin_folder=runnable_binaries(self._servers / "programs", self._account),
            account=self._account,
            synchronous_commit=shard.synchronous_commit,
            synchronous=shard.synchronous,
        )

    def _start_pair(self, pair: Pair) -> None:
        names = [f"{pair.name}-{role}" for role in ("primary", "replica")]
        alive = self._state.alive
        if all(name in alive for name in names):
            return
        for name in names:
            # One without the other starts anew with it: their ports may have to change together.
            if name in alive:
                end_component(name, alive[name])
        if not pair.is_complete:
            self._progress(f"making {pair.name}: a primary and its replica")
            pair.make()
        elif not pair.has_replica:
            self._progress(f"copying a new replica of {pair.name}")
            pair.make_replica()
        if self._interrupted.is_set():
            return
        self._progress(f"starting {pair.name}")
        self._note(pair.start())
        self._progress(f"{pair.name} is ready on port {self._state.ports[names[0]]}, replica streaming")

    # --- stand-ins for the world outside ----------------------------------------------------------

    def _start_emulator(self, name: str) -> None:
        if self._is_up(name):
            return
        port = start_emulator(
            name,
            self._servers / name,
            ports=self._state.ports,
            account_sid=self._state.account_sid,
            auth_token=self._state.secrets["twilio"],
            account=self._account,
            note=self._note,
        )
        self._progress(f"{name} is ready on port {port}")
