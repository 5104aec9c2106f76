"""A private RabbitMQ node: own name, data, cookie, ports and epmd, on loopback only."""

import os
import shutil
import socket
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path

from stack.errors import StackError
from stack.files import write_private
from stack.ports import HOST, accepts
from stack.privileges import Account
from stack.process import Running, spawn, wait_until

_SCRIPTS = ("/usr/lib/rabbitmq/bin/rabbitmq-server", "/opt/rabbitmq/sbin/rabbitmq-server")
_START_TIMEOUT_S = 60.0
_SCHEDULERS = max(1, (os.cpu_count() or 2) // 2)
_PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"
_METHOD_FRAME = b"\x01"
USER = "postorder"


def server_script() -> Path:
    """Return RabbitMQ's own start script. Raises StackError, saying how to install it."""
    for path in (*_SCRIPTS, shutil.which("rabbitmq-server") or ""):
        # Debian's /usr/sbin/rabbitmq-server is a wrapper that insists on its own user and folders.
        if path and Path(path).exists():
            return Path(path)
    raise StackError("rabbitmq-server not found. Run, as root: apt-get install rabbitmq-server")


class RabbitNode:
    """The node, in its folder."""

    def __init__(
        self, folder: Path, *, ports: Mapping[str, int], password: str, cookie: str, account: Account | None
    ) -> None:
        self._folder = folder
        self._ports = ports
        self._password = password
        self._cookie = cookie
        self._account = account
        self._node = f"postorder-{sha256(str(folder).encode()).hexdigest()[:8]}@localhost"

    def prepare(self) -> None:
        """Write the node's configuration. The data folder is left as it is."""
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(self._folder / "rabbitmq.conf", self._configuration())
        write_private(self._folder / "enabled_plugins", "[].\n")
        write_private(self._folder / ".erlang.cookie", self._cookie)  # Erlang insists on its mode
        if self._account:
            self._account.take(self._folder)

    def _configuration(self) -> str:
        return "\n".join(
            [
                f"listeners.tcp.default = {HOST}:{self._ports['amqp']}",
                f"default_user = {USER}",
                f"default_pass = {self._password}",
                "default_user_tags.administrator = true",
                "vm_memory_high_watermark.absolute = 2GB",
                "disk_free_limit.absolute = 200MB",
                # Queue files are rolled at 512 MB by default, and a full node starts slowly.
                "raft.wal_max_size_bytes = 64000000",
                "log.console = false",
                f"log.file = {self._folder / 'node.log'}",
                "log.file.level = warning",
                "",
            ]
        )

    def _environment(self) -> dict[str, str]:
        folder = str(self._folder)
        return {
            "HOME": folder,  # where the cookie is looked for
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
            "ERL_EPMD_ADDRESS": HOST,
            "RABBITMQ_CONF_ENV_FILE": "/dev/null",  # not the system node's settings
            "RABBITMQ_NODENAME": self._node,
            "RABBITMQ_DIST_PORT": str(self._ports["amqp_dist"]),
            "RABBITMQ_CONFIG_FILE": f"{folder}/rabbitmq",
            "RABBITMQ_ADVANCED_CONFIG_FILE": f"{folder}/advanced",
            "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/enabled_plugins",
            "RABBITMQ_MNESIA_BASE": f"{folder}/data",
            "RABBITMQ_LOG_BASE": folder,
            "RABBITMQ_GENERATED_CONFIG_DIR": f"{folder}/generated",
            # Replaces the script's shell by the Erlang VM, so that the pid is the server's own.
            "RUNNING_UNDER_SYSTEMD": "true",
            # No scheduler spins while idle: on two cores that would steal the time of all others. Half the
            # cores: the node shares them with all else here, and waking a second scheduler for each
            # message costs more than it brings (66 against 55 µs for a message, measured on two cores).
            "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": (
                f"+S {_SCHEDULERS}:{_SCHEDULERS} +SDcpu {_SCHEDULERS}:{_SCHEDULERS} "
                "+sbwt none +sbwtdcpu none +sbwtdio none -kernel inet_dist_use_interface {127,0,0,1}"
            ),
        }

    def start_epmd(self) -> Running:
        """Start the node's own name server."""
        epmd = shutil.which("epmd") or "/usr/bin/epmd"
        log = self._folder / "epmd.log"
        port = self._ports["epmd"]
        server = spawn(
            [epmd, "-port", str(port), "-address", HOST],
            folder=self._folder,
            log=log,
            environment={},
            account=self._account,
        )
        wait_until(lambda: accepts(port), what="epmd", log=log, server=server, timeout_s=_START_TIMEOUT_S)
        return server

    def start(self) -> Running:
        """Start the node; it is not ready yet."""
        return spawn(
            [server_script()],
            folder=self._folder,
            log=self._folder / "console.log",
            environment=self._environment(),
            account=self._account,
        )

    def wait(self, server: Running, is_over: Callable[[], bool] = lambda: False) -> None:
        """Wait until the node answers AMQP, or the waiting is over before."""
        wait_until(
            lambda: is_over() or self.answers(),
            what="RabbitMQ",
            log=self._folder / "console.log",
            server=server,
            timeout_s=_START_TIMEOUT_S,
        )

    def answers(self) -> bool:
        """Tell whether the node speaks AMQP: it opens its listener only when it can serve."""
        try:
            with socket.create_connection((HOST, self._ports["amqp"]), timeout=1.0) as connection:
                connection.sendall(_PROTOCOL_HEADER)
                return connection.recv(1) == _METHOD_FRAME
        except OSError:
            return False
