"""A PostgreSQL pair: a primary, and a replica that streams from it through a slot."""

import os
import shutil
import signal
from collections.abc import Mapping
from pathlib import Path

from stack.errors import StackError
from stack.files import write_private
from stack.ports import HOST
from stack.postgres_programs import psql
from stack.postgres_settings import (
    DATABASE,
    DATABASE_STATEMENTS,
    HBA,
    INITDB_OPTIONS,
    REPLICATION_USER,
    SETTINGS,
    SUPERUSER,
    USER,
    application_statements,
)
from stack.privileges import Account
from stack.process import Running, run, spawn, wait_until

_SLOT = "replica"
_MAKE_SLOT = (
    f"SELECT pg_create_physical_replication_slot('{_SLOT}', true) "  # noqa: S608  # a constant
    f"WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '{_SLOT}')"
)
_START_TIMEOUT_S = 60.0
_COMPLETE = ".complete"


class Pair:
    """One shard's two servers, in their folder."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        ports: Mapping[str, int],
        passwords: Mapping[str, str],
        bin_folder: Path,
        account: Account | None,
        synchronous_commit: str,
        synchronous: bool,
    ) -> None:
        self.name = name
        self._folder = folder
        self._ports = {role: ports[f"{name}-{role}"] for role in ("primary", "replica")}
        self._passwords = passwords
        self._bin = bin_folder
        self._account = account
        self._synchronous_commit = synchronous_commit
        self._synchronous = synchronous

    def dsn(self, role: str) -> str:
        """Return the application's DSN of a server, password included."""
        return f"postgresql://{USER}:{self._passwords[USER]}@{HOST}:{self._ports[role]}/{DATABASE}"

    @property
    def is_complete(self) -> bool:
        """Whether both servers were made to the end. A half-made pair is made anew."""
        return (self._folder / _COMPLETE).exists()

    @property
    def was_promoted(self) -> bool:
        """Whether the replica was made the primary by hand. A copy under way has another name."""
        replica = self._folder / "replica"
        return replica.exists() and not (replica / "standby.signal").exists()

    def follow_promotion(self) -> None:
        """Let the promoted replica be the primary here too. Neither server may run; the old data is kept."""
        superseded = self._folder / "superseded"
        if (self._folder / "primary").exists():
            shutil.rmtree(superseded, ignore_errors=True)
            (self._folder / "primary").rename(superseded)
        (self._folder / "replica").rename(self._folder / "primary")

    @property
    def has_replica(self) -> bool:
        """Whether there is a replica: not after a promotion."""
        return (self._folder / "replica").exists()

    def make_replica(self) -> None:
        """Copy a new replica from the primary. Neither server may run."""
        self._write("primary", "stack.conf", f"port = {self._ports['primary']}\n")
        primary = self._start_server("primary")
        try:
            self._wait("primary", primary)
            self.sql("primary", _MAKE_SLOT)
            self._copy_to_replica()
        finally:
            self._stop_server("primary")

    def make(self) -> None:
        """Make both servers from nothing, and stop them again."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._folder.mkdir(mode=0o700, parents=True)
        if self._account:
            self._account.take(self._folder)
        self._make_primary()
        # Nobody to wait for yet, or the first commit would wait for ever.
        self._write("primary", "stack.conf", f"port = {self._ports['primary']}\n")
        primary = self._start_server("primary")
        try:
            self._wait("primary", primary)
            self._prepare_primary()
            self._copy_to_replica()
        finally:
            self._stop_server("primary")
        (self._folder / _COMPLETE).touch()

    def _make_primary(self) -> None:
        password_file = self._folder / "superuser_password"
        write_private(password_file, self._passwords[SUPERUSER])
        if self._account:
            self._account.take(self._folder)
        self._run(
            "initdb",
            f"--pgdata={self._folder / 'primary'}",
            f"--username={SUPERUSER}",
            f"--pwfile={password_file}",
            *(f"--{name}={value}" if value else f"--{name}" for name, value in INITDB_OPTIONS.items()),
        )
        password_file.unlink()
        lines = [f"{name} = '{value}'" for name, value in SETTINGS.items()]
        lines += [f"listen_addresses = '{HOST}'", "include_if_exists = 'stack.conf'"]
        with (self._folder / "primary" / "postgresql.conf").open("a", encoding="utf-8") as file:
            file.write("\n".join(["", *lines, ""]))
        (self._folder / "primary" / "pg_hba.conf").write_text("\n".join([*HBA, ""]), encoding="utf-8")

    def _prepare_primary(self) -> None:
        self.sql(
            "primary",
            *application_statements(self._passwords),
            f"CREATE ROLE {REPLICATION_USER} LOGIN REPLICATION "
            f"PASSWORD '{self._passwords[REPLICATION_USER]}'",
            _MAKE_SLOT,
        )
        self.sql("primary", *DATABASE_STATEMENTS, database=DATABASE)

    def _copy_to_replica(self) -> None:
        copy = self._folder / "replica.new"
        shutil.rmtree(copy, ignore_errors=True)
        self._run(
            "pg_basebackup",
            f"--dbname={self._upstream()}",
            f"--pgdata={copy}",
            f"--slot={_SLOT}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
            password=self._passwords[REPLICATION_USER],
        )
        self._write(copy.name, "standby.signal", "")
        copy.rename(self._folder / "replica")

    def _upstream(self) -> str:
        return (
            f"host={HOST} port={self._ports['primary']} user={REPLICATION_USER} "
            f"application_name={self.name}_replica"
        )

    def start(self) -> dict[str, Running]:
        """Start both servers, and return them when the replica streams."""
        self._write_configuration()
        servers = {role: self._start_server(role) for role in ("primary", "replica")}
        for role, server in servers.items():
            self._wait(role, server)
        wait_until(
            self._streams,
            what=f"{self.name}'s replication",
            log=self._log("replica"),
            server=servers["replica"],
            timeout_s=_START_TIMEOUT_S,
        )
        return {f"{self.name}-{role}": server for role, server in servers.items()}

    def reconfigure(self, primary: Running) -> None:
        """Apply changed settings to a running pair."""
        self._write_configuration()
        process = primary.process()
        if process is not None:
            process.send_signal(signal.SIGHUP)

    def _write_configuration(self) -> None:
        """Write what may differ from start to start: ports, and who waits for whom."""
        standby = f"FIRST 1 ({self.name}_replica)" if self._synchronous else ""
        own = {
            "primary": f"synchronous_standby_names = '{standby}'\n",
            "replica": f"primary_slot_name = '{_SLOT}'\nprimary_conninfo = "
            f"'{self._upstream()} password={self._passwords[REPLICATION_USER]}'\n",
        }
        for role, text in own.items():
            port = f"port = {self._ports[role]}\ncluster_name = '{self.name}_{role}'\n"
            commit = f"synchronous_commit = '{self._synchronous_commit}'\n"
            self._write(role, "stack.conf", port + commit + text)

    def _write(self, role: str, name: str, text: str) -> None:
        path = self._folder / role / name
        write_private(path, text)
        if self._account:
            os.chown(path, self._account.uid, self._account.gid)

    def _start_server(self, role: str) -> Running:
        folder = self._folder / role
        # A pid file left by a kill -9 may name a pid that is another process by now.
        (folder / "postmaster.pid").unlink(missing_ok=True)
        return spawn(
            [self._bin / "postgres", "-D", folder],
            folder=folder,
            log=self._log(role),
            environment={},
            account=self._account,
        )

    def _stop_server(self, role: str) -> None:
        self._run("pg_ctl", "stop", f"--pgdata={self._folder / role}", "--mode=fast", "--timeout=20")

    def _log(self, role: str) -> Path:
        return self._folder / f"{role}.log"

    def _wait(self, role: str, server: Running) -> None:
        wait_until(
            lambda: self._accepts(role),
            what=f"{self.name}'s {role}",
            log=self._log(role),
            server=server,
            timeout_s=_START_TIMEOUT_S,
        )

    def _accepts(self, role: str) -> bool:
        try:
            self.sql(role, "SELECT 1")
        except StackError:
            return False
        return True

    def _streams(self) -> bool:
        expected = "streaming|sync" if self._synchronous else "streaming|async"
        # Who follows slots that move is listed there as well.
        query = "SELECT state, sync_state FROM pg_stat_replication WHERE application_name ~ '_replica$'"
        return self.sql("primary", query).strip() == expected

    def sql(self, role: str, *statements: str, database: str = SUPERUSER) -> str:
        """Run statements as superuser and return what they print."""
        return psql(
            self._bin,
            self._ports[role],
            self._passwords[SUPERUSER],
            *statements,
            database=database,
            folder=self._folder,
            account=self._account,
        )

    def _run(self, program: str, *arguments: str, password: str = "") -> str:
        return run(
            [self._bin / program, *arguments],
            folder=self._folder,
            environment={"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"},
            account=self._account,
        )
