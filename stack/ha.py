"""A shard's pair under Patroni: members a and b, either of which may be the primary."""

import shutil
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stack.errors import StackError
from stack.etcd import Etcd
from stack.patroni import Patroni, cluster_settings
from stack.patroni_api import MemberView, PatroniApi
from stack.postgres_programs import psql
from stack.postgres_settings import DATABASE, DATABASE_STATEMENTS, SUPERUSER, application_statements
from stack.privileges import Account
from stack.process import Running, end, wait_until
from stack.state import ShardConfig

LETTERS = ("a", "b")
_COMPLETE = ".complete"
_READY_TIMEOUT_S = 90.0
_MADE_TIMEOUT_S = 60.0
# The first statements are run while there is no replica to wait for.
_ALONE = "-c synchronous_commit=local"

Note = Callable[[Mapping[str, Running]], None]


def member_names(shard: str) -> list[str]:
    """Return the names of a shard's members, which are the names of their Patroni processes too."""
    return [f"{shard}-{letter}" for letter in LETTERS]


def views_of(apis: Sequence[PatroniApi]) -> list[MemberView]:
    """Return a pair's members as Patroni sees them; none when no Patroni answers."""
    for api in apis:
        if found := api.members():
            return found
    return []


class HaPair:
    """One shard's two members, in their folder. `note` is told of each process that was started."""

    def __init__(
        self,
        shard: ShardConfig,
        folder: Path,
        *,
        ports: Mapping[str, int],
        passwords: Mapping[str, str],
        bin_folder: Path,
        python: tuple[Path, str],
        account: Account | None,
        etcd: Etcd,
        note: Note,
    ) -> None:
        self.name = shard.name
        self.members = [
            Patroni(
                name,
                folder / name.rpartition("-")[2],
                ports=ports,
                passwords=passwords,
                bin_folder=bin_folder,
                python=python,
                account=account,
            )
            for name in member_names(shard.name)
        ]
        self._synchronous = shard.synchronous
        self._cluster = cluster_settings(
            synchronous=shard.synchronous, strict=shard.strict, synchronous_commit=shard.synchronous_commit
        )
        self._folder = folder
        self._passwords = passwords
        self._bin = bin_folder
        self._account = account
        self._etcd = etcd
        self._note = note

    @property
    def is_complete(self) -> bool:
        """Whether both members were made to the end. A half-made pair is made anew."""
        return (self._folder / _COMPLETE).exists()

    def make(self, alive: Mapping[str, Running]) -> None:
        """Make both members from nothing; return when the replica streams."""
        for member in self.members:
            if member.name in alive:
                end(alive[member.name])
            end_postmaster(member)
        self._etcd.forget(self.name)
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        if self._account:
            self._account.take(self._folder)
        first, second = self.members
        server = self._start(first)
        wait_until(
            lambda: self.leader() is not None,
            what=f"{self.name}'s first member",
            log=first.log,
            server=server,
            timeout_s=_MADE_TIMEOUT_S,
        )
        self._sql(*application_statements(self._passwords))
        self._sql(*DATABASE_STATEMENTS, database=DATABASE)
        self._wait(self._start(second), second)
        (self._folder / _COMPLETE).touch()

    def start(self, alive: Mapping[str, Running]) -> None:
        """Start the members that do not run; return when one leads and the other streams."""
        servers = [(member, alive.get(member.name) or self._start(member)) for member in self.members]
        self._reconcile()
        for member, server in servers:
            self._wait(server, member)

    def _start(self, member: Patroni) -> Running:
        server = member.start(self._cluster)
        self._note({member.name: server})
        return server

    def _wait(self, server: Running, member: Patroni) -> None:
        wait_until(
            self.is_ready,
            what=f"{self.name}: a primary with a replica that streams",
            log=member.log,
            server=server,
            timeout_s=_READY_TIMEOUT_S,
        )

    def _reconcile(self) -> None:
        """Hand the pair's settings to Patroni, which keeps those it was first started with."""
        deadline = time.monotonic() + _READY_TIMEOUT_S
        while True:
            try:
                self.reconfigure()
            except StackError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.2)
            else:
                return

    def reconfigure(self) -> None:
        """Apply changed settings to a running pair. Raises StackError when no Patroni answers."""
        problem: StackError | None = None
        for member in self.members:
            try:
                member.api.configure(self._cluster)
            except StackError as error:
                problem = error
            else:
                return
        if problem:
            raise problem

    def _views(self) -> list[MemberView]:
        return views_of([member.api for member in self.members])

    def leader(self) -> Patroni | None:
        """Return the member that leads, if one does."""
        leading = {view.name for view in self._views() if view.leads}
        return next((member for member in self.members if member.name in leading), None)

    def is_ready(self) -> bool:
        """Tell whether one member leads and the other follows as it should."""
        wanted = "sync_standby" if self._synchronous else "replica"
        views = self._views()
        return any(view.leads for view in views) and any(
            (view.role, view.state) == (wanted, "streaming") for view in views
        )

    def stop(self, alive: Mapping[str, Running], timeout_s: float) -> None:
        """Stop the replica, then the primary, so that neither takes over from the other."""
        leader = self.leader()
        for member in sorted(self.members, key=lambda one: one is leader):
            if member.name in alive:
                end(alive[member.name], timeout_s=timeout_s)
            end_postmaster(member)

    def _sql(self, *statements: str, database: str = SUPERUSER) -> str:
        leader = self.leader()
        if leader is None:
            raise StackError(f"{self.name} has no primary (log: {self.members[0].log})")
        return psql(
            self._bin,
            leader.port,
            self._passwords[SUPERUSER],
            *statements,
            database=database,
            folder=self._folder,
            account=self._account,
            options=_ALONE,
        )


def end_postmaster(member: Patroni) -> None:
    """Stop a PostgreSQL server whose Patroni is gone."""
    postmaster = member.postmaster()
    if postmaster:
        end(postmaster, how=signal.SIGINT)  # PostgreSQL's fast shutdown
