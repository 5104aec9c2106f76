"""A mail server that delivers nothing: it keeps what it is sent and fails on request.

    python -m stack.smtp.sink --host 127.0.0.1 --port 8025 --api-port 8026 [--data-dir DIR] [--spool]

Prints `ready smtp://… http://…` when it listens on both ports. What it took and how it is to behave is
under `/_control/` on the second one.
"""

import argparse
import contextlib
import os
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

from stack.smtp.authentication import Credentials
from stack.smtp.certificate import make_certificate, server_context
from stack.smtp.control import SmtpControl
from stack.smtp.host import SmtpHost, SmtpSettings
from stack.smtp.mail_store import MailStore, Spool
from stack.smtp.server import listening
from stack.standin.loopback_site import serving
from stack.standin.program import StartUpError, run

MEBIBYTE: Final = 1024 * 1024
# Envelopes take about 0.8 kB each. Beyond either limit the oldest make room and counters say so.
MAILS_MAX: Final = 1_000_000
MEMORY_MIB_MAX: Final = 1024
SPOOL_MIB_MAX: Final = 10_240
MAIL_MIB_MAX: Final = 32


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the options."""
    parser = argparse.ArgumentParser(prog="python -m stack.smtp.sink", description="Keep every mail.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True, help="SMTP; 0 takes a free one")
    parser.add_argument("--api-port", type=int, required=True, help="control API; 0 takes a free one")
    parser.add_argument("--hostname", default="sink.localhost", help="name in greeting and certificate")
    parser.add_argument("--data-dir", type=Path, help="for the spool and the certificate")
    parser.add_argument("--spool", action="store_true", help="keep mails in --data-dir too, as .eml files")
    parser.add_argument("--starttls", action="store_true", help="offer STARTTLS, self-signed unless given")
    parser.add_argument("--tls-cert", type=Path, help="certificate chain (PEM) for STARTTLS")
    parser.add_argument("--tls-key", type=Path, help="its private key (PEM)")
    parser.add_argument(
        "--auth-user", default="", help="who has to sign in; the password is in SMTP_SINK_PASSWORD"
    )
    parser.add_argument("--mails-max", type=int, default=MAILS_MAX, help="envelopes kept")
    parser.add_argument("--memory-mib-max", type=int, default=MEMORY_MIB_MAX, help="texts kept in memory")
    parser.add_argument("--spool-mib-max", type=int, default=SPOOL_MIB_MAX, help="texts kept on disk")
    parser.add_argument("--mail-mib-max", type=int, default=MAIL_MIB_MAX, help="size of one mail")
    parser.add_argument("--connections-max", type=int, default=2000)
    parser.add_argument("--idle-s-max", type=float, default=300.0)
    return parser.parse_args(arguments)


def _check(options: argparse.Namespace) -> None:
    for name, value in vars(options).items():
        if name.endswith("_max") and value <= 0:
            raise StartUpError(f"--{name.replace('_', '-')} must be above 0")
    if options.spool and options.data_dir is None:
        raise StartUpError("--spool needs --data-dir")
    if (options.tls_cert is None) != (options.tls_key is None):
        raise StartUpError("--tls-cert and --tls-key go together")
    if options.auth_user and not os.environ.get("SMTP_SINK_PASSWORD"):
        raise StartUpError("--auth-user needs a password in SMTP_SINK_PASSWORD")


def _tls(options: argparse.Namespace) -> ssl.SSLContext | None:
    if not options.starttls:
        return None
    if options.tls_cert is not None:
        return server_context(options.tls_cert, options.tls_key)
    if options.data_dir is not None:
        return server_context(*make_certificate(options.data_dir, options.hostname))
    with tempfile.TemporaryDirectory() as directory:
        return server_context(*make_certificate(Path(directory), options.hostname))


@contextlib.asynccontextmanager
async def sinking(options: argparse.Namespace) -> AsyncIterator[str]:
    """Run the sink; yields the line that says it is ready."""
    _check(options)
    password = os.environ.get("SMTP_SINK_PASSWORD", "")
    spool = Spool(options.data_dir, options.spool_mib_max * MEBIBYTE) if options.spool else None
    settings = SmtpSettings(
        hostname=options.hostname,
        mail_bytes_max=options.mail_mib_max * MEBIBYTE,
        connections_max=options.connections_max,
        idle_s_max=options.idle_s_max,
        credentials=Credentials(options.auth_user, password) if options.auth_user else None,
    )
    store = MailStore(options.mails_max, options.memory_mib_max * MEBIBYTE, spool)
    host = SmtpHost(settings, store, _tls(options))
    control = SmtpControl(host)
    async with (
        serving(control.handle, options.host, options.api_port) as url,
        listening(host, options.host, options.port) as port,
    ):
        yield f"ready smtp://{options.host}:{port} {url}"


def main() -> int:
    """Run the program; returns its exit code."""
    return run("smtp_sink", sinking(read_arguments()))


if __name__ == "__main__":
    sys.exit(main())
