"""Twilio's requests: status callbacks of messages sent, and texts from handsets."""

from html import escape
from typing import Any

import msgspec
import structlog
from litestar import Response, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from consumers.web.requests import FORM, JSON, AnyRequest, Patience, Refused, media_type_of, target_of
from pipeline.errors import CallbackError, PostorderError
from pipeline.notifications.callbacks.forms import Fields, parse_form
from pipeline.notifications.callbacks.seals import Seals
from pipeline.notifications.callbacks.twilio import InboundTexts, StatusCallbacks
from pipeline.notifications.callbacks.twilio_signature import TwilioSignatures
from pipeline.notifications.callbacks.twilio_words import Wish

log = structlog.get_logger(__name__)

_FORBIDDEN, _NOT_FOUND, _UNAVAILABLE = 403, 404, 503
_NO_REPLY = "<Response/>"
_decode_flat = msgspec.json.Decoder(dict[str, str | int | None]).decode


class TwilioRequests:
    """Reads requests that claim to be Twilio's. `accounts`: ours, by sid."""

    def __init__(self, signatures: TwilioSignatures, accounts: frozenset[str]) -> None:
        self._signatures = signatures
        self._accounts = accounts

    async def fields(self, request: AnyRequest) -> Fields:
        """Return the fields of a genuine request; 403 for every other one."""
        media_type = media_type_of(request, FORM, JSON)
        body = await request.body()
        target = target_of(request)
        signature = request.headers.get("x-twilio-signature", "").encode("latin-1")
        if media_type == FORM:
            fields = parse_form(body)
            is_genuine = self._signatures.is_of_form(target, fields, signature)
        else:
            is_genuine = self._signatures.is_of_body(target, body, signature)
            fields = _flat_fields(body) if is_genuine else ()
        accounts = {value for name, value in fields if name == "AccountSid"}
        if not is_genuine or not accounts or not accounts <= self._accounts:
            raise Refused(_FORBIDDEN)
        return fields


def twilio_routes(
    requests: TwilioRequests,
    *,
    seals: Seals,
    callbacks: StatusCallbacks,
    texts: InboundTexts,
    help_text: str,
    patience: Patience,
) -> list[HTTPRouteHandler]:
    """Return the routes."""
    help_reply = f"<Response><Message>{escape(help_text)}</Message></Response>" if help_text else _NO_REPLY

    @post("/twilio/status/{seal:str}", status_code=204)
    async def take_status(request: AnyRequest, seal: FromPath[str]) -> None:
        fields = await requests.fields(request)
        sealed = seals.open(seal)
        if sealed is None:
            raise Refused(_NOT_FOUND)
        await patience.wait_for(callbacks.take(sealed, fields))

    @post("/twilio/inbound", status_code=200)
    async def take_text(request: AnyRequest) -> Response[str]:
        fields = await requests.fields(request)
        try:
            wish = await patience.wait_for(texts.take(fields))
        except (PostorderError, TimeoutError) as error:
            if isinstance(error, CallbackError):
                raise
            log.warning("text.not_taken", error=str(error) or type(error).__name__)
            return _twiml(_NO_REPLY, _UNAVAILABLE)
        return _twiml(help_reply if wish is Wish.HELP else _NO_REPLY)

    return [take_status, take_text]


def _twiml(document: str, status: int = 200) -> Response[str]:
    text = f'<?xml version="1.0" encoding="UTF-8"?>{document}'
    return Response(text, status_code=status, media_type="text/xml")


def _flat_fields(body: bytes) -> Fields:
    try:
        found: dict[str, Any] = _decode_flat(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise CallbackError("the body is no flat JSON object") from error
    return [(name, str(value)) for name, value in found.items() if value is not None]
