"""Whether a request comes from Twilio: `X-Twilio-Signature`, checked as Twilio's own libraries check it.

The signed text is the URL that Twilio was given, with its query as sent, and then each form field's name and
value, names sorted, and of one name the values sorted, each once. For a JSON body it is the URL alone, whose
query carries `bodySHA256`. Source: twilio.com/docs/usage/security; vectors of twilio-python in the tests.
"""

import hashlib
import hmac
from base64 import b64encode
from collections.abc import Iterable, Sequence
from typing import Final, Literal
from urllib.parse import urlsplit, urlunsplit

Algorithm = Literal["sha1", "sha256"]

_DEFAULT_PORTS: Final = {"https": 443, "http": 80}
_BODY_HASH: Final = "bodySHA256="


class TwilioSignatures:
    """Checks signatures. `base_url` is what Twilio calls, whatever a proxy or the Host header makes of it.

    `tokens`: the auth tokens that may have signed, several while one is being changed. The algorithm is ours
    to choose, never the request's.
    """

    def __init__(self, *, base_url: str, tokens: Sequence[str], algorithm: Algorithm = "sha1") -> None:
        digest = {"sha1": hashlib.sha1, "sha256": hashlib.sha256}[algorithm]
        self._macs = [hmac.new(token.encode(), digestmod=digest) for token in tokens if token]
        self._bases = _with_and_without_port(base_url.rstrip("/"))

    def is_of_form(self, target: str, fields: Iterable[tuple[str, str]], signature: bytes) -> bool:
        """Tell whether a form post is genuine. `target`: path and query to the byte, as requested."""
        values: dict[str, set[str]] = {}
        for name, value in fields:
            values.setdefault(name, set()).add(value)
        signed = "".join(name + value for name in sorted(values) for value in sorted(values[name]))
        return self._is_signed(target, signed, signature)

    def is_of_body(self, target: str, body: bytes, signature: bytes) -> bool:
        """Tell whether a post of another body is genuine: its hash is in the signed query, exactly once."""
        query = target.partition("?")[2]
        hashes = [part.removeprefix(_BODY_HASH) for part in query.split("&") if part.startswith(_BODY_HASH)]
        right = hashlib.sha256(body).hexdigest()
        if len(hashes) != 1 or not hmac.compare_digest(hashes[0].encode(), right.encode()):
            return False
        return self._is_signed(target, "", signature)

    def _is_signed(self, target: str, text: str, signature: bytes) -> bool:
        return any(
            hmac.compare_digest(_signature(keyed, base + target + text), signature)
            for keyed in self._macs
            for base in self._bases
        )


def _signature(keyed: hmac.HMAC, text: str) -> bytes:
    mac = keyed.copy()
    mac.update(text.encode("utf-8", "surrogatepass"))
    return b64encode(mac.digest())


def _with_and_without_port(url: str) -> tuple[str, str]:
    """Return a URL as it is, and with its port taken off or the scheme's own put on: Twilio signs either."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2]
    if parts.port is not None:
        other = host.removesuffix(f":{parts.port}")
    else:
        other = f"{host}:{_DEFAULT_PORTS[parts.scheme]}"
    return url, urlunsplit(parts._replace(netloc=other))
