"""Whom connections to providers trust: certificates are read once for all of them."""

import ssl
from functools import lru_cache

from pipeline.errors import SettingsError


def trusting(ca_file: str, *, key: str) -> ssl.SSLContext:
    """Return the context that verifies certificates and host names, TLS 1.2 or later.

    `ca_file`: PEM certificates to trust in place of the system's; empty: the system's, which take 20 ms and
    1 MB to read. Raises SettingsError, which names `key`, for a file that holds no certificates.
    """
    try:
        return _trusting(ca_file)
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise SettingsError([f"{key}: {ca_file}: cannot be used: {why}"]) from error


@lru_cache(16)
def _trusting(ca_file: str) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=ca_file or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context
