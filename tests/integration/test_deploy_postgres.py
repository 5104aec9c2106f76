"""The composition's PostgreSQL pair, made by its own scripts on real servers, without containers.

What the postgres image does around them (initdb, a server on a socket, then the real start) is done here by
hand, with the arguments of docker-compose.yml.
"""

import asyncio
import contextlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest
from deployment import DEPLOY, compose

from consumers.migration import migrate_all
from pipeline.settings import load_settings
from stack.ports import HOST, choose_port
from stack.postgres_programs import runnable_binaries
from stack.privileges import Account, unprivileged_account
from stack.process import Running, end, spawn, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

SCRIPTS = DEPLOY / "docker"
SHARD = "shard0"


class Pair:
    """A pair in a folder, as in two containers: each has its data and sees the secrets."""

    def __init__(self, folder: Path, account: Account | None) -> None:
        services = compose()["services"]
        self.folder = folder
        self.account = account
        self.bin = runnable_binaries(folder / "programs", account)
        self.ports = {role: choose_port(f"{SHARD}-{role}", set()) for role in ("primary", "replica")}
        self.services = {role: services[f"{SHARD}-{role}"] for role in ("primary", "replica")}
        subprocess.run(["sh", SCRIPTS / "make-secrets.sh", folder / "secrets"], check=True, timeout=30)
        for source in (SCRIPTS / "postgres").iterdir():
            (folder / source.name).write_bytes(source.read_bytes())
            (folder / source.name).chmod(0o755)
        if account:
            account.take(folder)

    def secret(self, name: str) -> str:
        return (self.folder / "secrets" / name).read_text()

    def environment(self, role: str) -> dict[str, str]:
        data = self.folder / f"{role}-data"
        return {
            "PATH": f"{self.bin}:{os.environ['PATH']}",
            "PGDATA": str(data / "18"),
            "SECRETS": str(self.folder / "secrets"),
            "PRIMARY_PORT": str(self.ports["primary"]),
            **self.services[role]["environment"],
            "PRIMARY_HOST": HOST,
            "TMPDIR": str(self.folder),
        }

    def arguments(self, role: str) -> list[str]:
        """The command of the service, with this machine's files and port."""
        words = [word.replace("/etc/postgresql", str(self.folder)) for word in self.services[role]["command"]]
        return [*words, "-c", f"port={self.ports[role]}", "-c", f"unix_socket_directories={self.folder}"]

    def run(self, *command: object, role: str = "primary", **more: str) -> str:
        found = subprocess.run(
            [str(word) for word in command],
            cwd=self.folder,
            env={**self.environment(role), **more},
            user=self.account.uid if self.account else None,
            group=self.account.gid if self.account else None,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert found.returncode == 0, found.stderr
        return found.stdout

    def spawned(self, role: str, command: list[object]) -> Running:
        server = spawn(
            command,
            folder=self.folder,
            log=self.folder / f"{role}.log",
            environment=self.environment(role),
            account=self.account,
        )
        wait_until(
            lambda: self.listens(role),
            what=role,
            log=self.folder / f"{role}.log",
            server=server,
            timeout_s=60,
        )
        return server

    def listens(self, role: str) -> bool:
        command = [self.bin / "pg_isready", f"--host={HOST}", f"--port={self.ports[role]}", "--quiet"]
        return subprocess.run(command, check=False, timeout=10).returncode == 0

    def make_primary(self) -> Running:
        """What the image's entry point does with an empty folder."""
        environment = self.services["primary"]["environment"]
        data = self.environment("primary")["PGDATA"]
        password = self.secret("postgres_superuser")
        password_file = self.folder / "superuser"
        password_file.write_text(password)
        password_file.chmod(0o644)
        options = shlex.split(environment["POSTGRES_INITDB_ARGS"])
        self.run("initdb", "-D", data, "-U", "postgres", f"--pwfile={password_file}", "--no-sync", *options)
        words = " ".join(
            shlex.quote(word) for word in [*self.arguments("primary")[1:], "-c", "listen_addresses="]
        )
        log = self.folder / "init.log"
        self.run("pg_ctl", "-D", data, "-w", "-l", log, "-o", words, "start")
        more = {"PGHOST": str(self.folder), "PGPORT": str(self.ports["primary"]), "PGPASSWORD": password}
        self.run("sh", self.folder / "primary-init.sh", POSTGRES_USER="postgres", **more)
        self.run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
        return self.spawned("primary", [self.bin / "postgres", "-D", data, *self.arguments("primary")[1:]])

    def start_replica(self) -> Running:
        return self.spawned("replica", ["sh", self.folder / "replica.sh", *self.arguments("replica")])

    def as_superuser(self, sql: str) -> str:
        """Run a statement on the primary as somebody inside its container can."""
        return self.run(
            *("psql", "-XAt", "-h", self.folder, "-p", self.ports["primary"], "-U", "postgres", "-c", sql),
            PGPASSWORD=self.secret("postgres_superuser"),
        ).strip()

    def followers(self) -> str:
        return self.as_superuser("SELECT application_name, state, sync_state FROM pg_stat_replication")

    def dsn(self, role: str, user: str = "postorder", secret: str = "", database: str = "postorder") -> str:
        password = self.secret(secret or f"postgres_{user}")
        return f"postgresql://{user}:{password}@{HOST}:{self.ports[role]}/{database}"


@pytest.fixture(scope="module")
def pair() -> Iterator[Pair]:
    # Whoever the servers run as gets there.
    folder = Path(tempfile.mkdtemp(prefix="postorder-", dir="/var/tmp"))
    folder.chmod(0o711)
    pair = Pair(folder, unprivileged_account())
    servers = []
    try:
        servers.append(pair.make_primary())
        servers.append(pair.start_replica())
        wait_until(
            lambda: "streaming" in pair.followers(),
            what="the replica to follow",
            log=folder / "replica.log",
            server=servers[-1],
            timeout_s=30,
        )
        yield pair
    finally:
        for server in reversed(servers):
            end(server)
        shutil.rmtree(folder)


async def value(dsn: str, sql: str) -> object:
    connection = await asyncpg.connect(dsn, timeout=5)
    try:
        return await connection.fetchval(sql, timeout=10)
    finally:
        await connection.close()


async def test_commits_wait_for_the_replica(pair: Pair) -> None:
    assert pair.followers() == f"{SHARD}_replica|streaming|sync"
    assert await value(pair.dsn("primary"), "SHOW synchronous_commit") == "on"
    assert await value(pair.dsn("primary"), "SHOW synchronous_standby_names") == f"FIRST 1 ({SHARD}_replica)"
    assert await value(pair.dsn("replica"), "SHOW synchronous_standby_names") == ""
    assert await value(pair.dsn("replica"), "SELECT pg_is_in_recovery()") is True


async def test_the_program_makes_its_tables_and_the_replica_has_them(pair: Pair, tmp_path: Path) -> None:
    path = tmp_path / "postorder.toml"
    path.write_text(
        f'[[shards]]\nname = "{SHARD}"\n'
        + "".join(
            f'{role} = "postgresql://postorder@{HOST}:{pair.ports[role]}/postorder"\n'
            for role in ("primary", "replica")
        )
        + f'password_file = "{pair.folder}/secrets/postgres_postorder"\n'
    )
    await migrate_all(load_settings(path, {}))
    position = await value(pair.dsn("primary"), "SELECT pg_current_wal_flush_lsn()::text")
    async with asyncio.timeout(10):
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{position}'"
        while not await value(pair.dsn("replica"), replayed):  # noqa: ASYNC110  # a server's state
            await asyncio.sleep(0.02)
    count = "SELECT count(*) FROM migration"
    assert await value(pair.dsn("replica"), count) == await value(pair.dsn("primary"), count)


async def test_nobody_gets_in_who_should_not(pair: Pair) -> None:
    refused = {
        "without a password": f"postgresql://postorder@{HOST}:{pair.ports['primary']}/postorder",
        "with another's password": pair.dsn("primary", secret="postgres_replicator"),
        "the superuser from outside": pair.dsn("primary", "postgres", "postgres_superuser"),
        "to the superuser's database": pair.dsn("primary", database="postgres"),
        "the replication user to data": pair.dsn("primary", "replicator"),
    }
    for dsn in refused.values():
        with pytest.raises((asyncpg.InvalidAuthorizationSpecificationError, asyncpg.InterfaceError)):
            await value(dsn, "SELECT 1")
    hashed = "SELECT bool_and(rolpassword LIKE 'SCRAM-SHA-256$%') FROM pg_authid WHERE rolcanlogin"
    assert pair.as_superuser(hashed) == "t"


def command_lines() -> bytes:
    """The arguments of every process there is."""
    found = b""
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            with contextlib.suppress(OSError):  # it has ended meanwhile
                found += (process / "cmdline").read_bytes()
    return found


def test_no_password_is_in_an_argument_or_a_log(pair: Pair) -> None:
    seen = command_lines() + b"".join(log.read_bytes() for log in pair.folder.glob("*.log"))
    for name in ("postgres_superuser", "postgres_replicator", "postgres_postorder"):
        assert pair.secret(name).encode() not in seen


def test_a_replica_that_was_promoted_stays_what_it_is(pair: Pair) -> None:
    """And one that starts again goes on where it was. Last here: the pair is not one afterwards."""
    data = Path(pair.environment("replica")["PGDATA"])
    inode = (data / "PG_VERSION").stat().st_ino
    pair.run("pg_ctl", "-D", data, "-w", "promote")
    pair.run("pg_ctl", "-D", data, "-w", "-m", "fast", "stop")
    replica = pair.start_replica()
    try:
        assert (data / "PG_VERSION").stat().st_ino == inode
        assert asyncio.run(value(pair.dsn("replica"), "SELECT pg_is_in_recovery()")) is False
        assert asyncio.run(value(pair.dsn("replica"), "CREATE TABLE promoted (id integer)")) is None
    finally:
        end(replica)
