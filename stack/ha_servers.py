"""What a stack made with --ha runs instead of plain pairs: etcd, and each pair under Patroni."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from stack.etcd import Etcd, client_packages, etcd_program
from stack.ha import HaPair, Note, member_names
from stack.patroni import running_postmaster
from stack.patroni_python import patroni_python
from stack.postgres_programs import runnable_binaries
from stack.privileges import Account
from stack.process import Running
from stack.state import StackState


class HaServers:
    """All pairs and their etcd. `note` is told of each process that was started."""

    def __init__(
        self, state: StackState, account: Account | None, note: Note, progress: Callable[[str], None]
    ) -> None:
        self._state = state
        self._folder = Path(state.server_dir)
        self._account = account
        self._note = note
        self._progress = progress

    def start(self) -> None:
        """Start what does not run; return when every pair has a primary and a replica that streams."""
        etcd = self._etcd()
        if "etcd" not in self._state.alive:
            self._progress("starting etcd")
            server = etcd.start()
            self._note({"etcd": server})
            etcd.wait(server)
        etcd.secure()
        with ThreadPoolExecutor() as pool:
            for future in [pool.submit(self._start_pair, pair) for pair in self._pairs(etcd)]:
                future.result()

    def stop(self, timeout_s: float) -> None:
        """Stop every pair. etcd still runs, or they would wait for it."""
        with ThreadPoolExecutor() as pool:
            for future in [pool.submit(pair.stop, self._state.alive, timeout_s) for pair in self.pairs()]:
                future.result()

    def pairs(self) -> list[HaPair]:
        """Return the pairs."""
        return self._pairs(self._etcd())

    def _pairs(self, etcd: Etcd) -> list[HaPair]:
        programs = self._folder / "programs"
        bin_folder = runnable_binaries(programs, self._account)
        python = patroni_python(programs, client_packages(), self._account)
        return [
            HaPair(
                shard,
                self._folder / shard.name,
                ports=self._state.ports,
                passwords=self._state.secrets,
                bin_folder=bin_folder,
                python=python,
                account=self._account,
                etcd=etcd,
                note=self._note,
            )
            for shard in self._state.shards
        ]

    def _etcd(self) -> Etcd:
        return Etcd(
            self._folder / "etcd",
            ports=self._state.ports,
            passwords=self._state.secrets,
            program=etcd_program(),
            account=self._account,
        )

    def _start_pair(self, pair: HaPair) -> None:
        if pair.is_complete:
            self._progress(f"starting {pair.name}")
            pair.start(self._state.alive)
        else:
            self._progress(f"making {pair.name}: two members under Patroni")
            pair.make(self._state.alive)
        leader = pair.leader()
        self._progress(f"{pair.name} is ready, {leader.name if leader else 'no one'} leads")


def postmasters(state: StackState) -> dict[str, Running]:
    """Return the PostgreSQL servers of a stack made with --ha: each outlives a Patroni that was killed."""
    folders = {
        member: Path(state.server_dir) / shard.name / member.rpartition("-")[2]
        for shard in state.shards
        for member in member_names(shard.name)
    }
    found = {member: running_postmaster(folder / "data") for member, folder in folders.items()}
    return {member: server for member, server in found.items() if server}
