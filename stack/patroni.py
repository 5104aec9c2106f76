"""One PostgreSQL server under Patroni: its configuration and its processes."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import psutil

from stack.etcd import NAMESPACE
from stack.etcd import USER as ETCD_USER
from stack.files import write_private
from stack.patroni_api import REST_USER, PatroniApi
from stack.ports import HOST
from stack.postgres_settings import HBA, INITDB_OPTIONS, REPLICATION_USER, SETTINGS, SUPERUSER
from stack.privileges import Account
from stack.process import Running, spawn

LEADER_LOCK_S = 20
"""How long the leader's lock outlives its last renewal; a new leader is chosen after that."""
_LOOP_S = 5
_RETRY_S = 5  # loop + 2 * retry must not exceed the lock's life
_RESTART_S = 15  # a server that crashed has this long to come back before the other takes over


class Patroni:
    """A member, in its folder. `name` is the shard's with the member's letter: shard0-a."""

    def __init__(
        self,
        name: str,
        folder: Path,
        *,
        ports: Mapping[str, int],
        passwords: Mapping[str, str],
        bin_folder: Path,
        python: tuple[Path, str],
        account: Account | None,
    ) -> None:
        self.name = name
        self.folder = folder
        self.port = ports[name]
        self.api = PatroniApi(name, ports[f"{name}-api"], passwords["patroni"])
        self._etcd_port = ports["etcd"]
        self._passwords = passwords
        self._bin = bin_folder
        self._python, self._python_path = python
        self._account = account

    @property
    def log(self) -> Path:
        """Patroni's log, which holds PostgreSQL's too."""
        return self.folder / "patroni.log"

    def start(self, cluster: Mapping[str, Any]) -> Running:
        """Start Patroni, which starts PostgreSQL. `cluster`: what a cluster made anew begins with."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # YAML's reader takes JSON, and nothing in JSON needs thought about quoting.
        write_private(self.folder / "patroni.yml", json.dumps(self._configuration(cluster), indent=2))
        if self._account:
            for path in (self.folder, self.folder / "patroni.yml"):
                os.chown(path, self._account.uid, self._account.gid)
        return spawn(
            [self._python, "-m", "patroni", self.folder / "patroni.yml"],
            folder=self.folder,
            log=self.log,
            environment={"PYTHONPATH": self._python_path, "PYTHONDONTWRITEBYTECODE": "1"},
            account=self._account,
        )

    def _configuration(self, cluster: Mapping[str, Any]) -> dict[str, Any]:
        api = f"{HOST}:{self.api.port}"
        return {
            "scope": self.name.rpartition("-")[0],
            "namespace": NAMESPACE,
            "name": self.name,
            "restapi": {
                "listen": api,
                "connect_address": api,
                "authentication": {"username": REST_USER, "password": self._passwords["patroni"]},
            },
            "etcd3": {
                "host": f"{HOST}:{self._etcd_port}",
                "username": ETCD_USER,
                "password": self._passwords["etcd"],
            },
            "bootstrap": {
                "dcs": dict(cluster),
                "initdb": [{name: value} if value else name for name, value in INITDB_OPTIONS.items()],
            },
            "postgresql": self._postgresql(),
        }

    def _postgresql(self) -> dict[str, Any]:
        address = f"{HOST}:{self.port}"
        return {
            "listen": address,
            "connect_address": address,
            "data_dir": str(self.folder / "data"),
            "bin_dir": str(self._bin),
            "pgpass": str(self.folder / "pgpass"),
            "pg_hba": list(HBA),
            "authentication": {
                "superuser": {"username": SUPERUSER, "password": self._passwords[SUPERUSER]},
                "replication": {
                    "username": REPLICATION_USER,
                    "password": self._passwords[REPLICATION_USER],
                },
            },
            "basebackup": [{"checkpoint": "fast"}, "no-sync"],
            # What cannot be rewound is copied anew: it holds nothing that was acknowledged.
            "remove_data_directory_on_rewind_failure": True,
            "remove_data_directory_on_diverged_timelines": True,
        }

    def postmaster(self) -> Running | None:
        """Return the PostgreSQL server, which outlives a Patroni that was killed; None: it does not run."""
        return running_postmaster(self.folder / "data")


def running_postmaster(data_dir: Path) -> Running | None:
    """Return the server of a data directory; None when none runs."""
    try:
        pid = int((data_dir / "postmaster.pid").read_text(encoding="ascii").split("\n", 1)[0])
        process = psutil.Process(pid)
        # A file left by a kill -9 may name a pid that is another process by now.
        if process.name() == "postgres" and Path(process.cwd()) == data_dir:
            return Running(pid, process.create_time())
    except (OSError, ValueError, psutil.Error):
        pass  # none runs
    return None


def cluster_settings(*, synchronous: bool, strict: bool, synchronous_commit: str) -> dict[str, Any]:
    """Return what both members of a pair must agree on.

    While no replica follows, a primary goes on alone, and nobody can take over from it; or, if strict, its
    commits wait.
    """
    return {
        "ttl": LEADER_LOCK_S,
        "loop_wait": _LOOP_S,
        "retry_timeout": _RETRY_S,
        "primary_start_timeout": _RESTART_S,
        "maximum_lag_on_failover": 1_048_576,
        "check_timeline": True,
        # While etcd is away, a primary goes on as long as its replica agrees.
        "failsafe_mode": True,
        "synchronous_mode": synchronous,
        "synchronous_mode_strict": synchronous and strict,
        # Slots that are moving between shards are not Patroni's to drop.
        "ignore_slots": [{"type": "logical", "plugin": "pgoutput"}],
        "postgresql": {
            "use_pg_rewind": True,
            "use_slots": True,
            "parameters": {**SETTINGS, "synchronous_commit": synchronous_commit},
        },
    }
