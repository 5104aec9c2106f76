"""Twilio's webhook signature, as its receivers check it."""

import base64
import hashlib
import hmac
from collections.abc import Mapping, Sequence
from typing import Final

SIGNATURE_HEADER: Final = "X-Twilio-Signature"


def sign(auth_token: str, url: str, params: Mapping[str, str | Sequence[str]]) -> str:
    """Return the value of `X-Twilio-Signature` for a form post of `params` to `url`.

    For a JSON body `params` is empty and the URL's query carries `bodySHA256`.
    """
    text = url + "".join(
        name + value
        for name, values in sorted(params.items())
        for value in sorted({values} if isinstance(values, str) else set(values))
    )
    # SHA-1 is what the protocol prescribes; as an HMAC it is still unbroken.
    digest = hmac.new(auth_token.encode(), text.encode(), hashlib.sha1).digest()
    return base64.b64encode(digest).decode()
