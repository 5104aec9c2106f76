"""The TLS side of the sink: a certificate that is given, or one made for the occasion."""

import ssl
import subprocess
from pathlib import Path
from typing import Final

from stack.standin.program import StartUpError

OPENSSL_S_MAX: Final = 20.0


def make_certificate(directory: Path, hostname: str) -> tuple[Path, Path]:
    """Make a self-signed certificate with OpenSSL; return the paths of certificate and key."""
    certificate, key = directory / "sink.crt", directory / "sink.key"
    command = ["openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
    command += ["-days", "30", "-subj", f"/CN={hostname}"]
    command += ["-addext", f"subjectAltName=DNS:{hostname},DNS:localhost,IP:127.0.0.1"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    try:
        directory.mkdir(parents=True, exist_ok=True)
        subprocess.run(command, check=True, capture_output=True, timeout=OPENSSL_S_MAX)
    except FileNotFoundError as error:
        raise StartUpError("--starttls needs the openssl program to make a certificate") from error
    except (subprocess.SubprocessError, OSError) as error:
        raise StartUpError(f"openssl could not make a certificate: {error}") from error
    return certificate, key


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context for TLS 1.2 and up."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key)
    except (OSError, ssl.SSLError) as error:
        raise StartUpError(f"cannot use the certificate {certificate}: {error}") from error
    return context
