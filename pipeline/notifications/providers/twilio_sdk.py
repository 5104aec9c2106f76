"""Twilio's API through Twilio's own SDK."""

import time
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from types import SimpleNamespace
from typing import Any

from aiohttp import (
    ClientError,
    ClientResponse,
    ClientSession,
    ClientTimeout,
    TCPConnector,
    TraceConfig,
    TraceRequestChunkSentParams,
    encode_basic_auth,
)
from twilio.base.exceptions import TwilioException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from pipeline.errors import LeaseEndedError, OutcomeUnknownError, ThrottledError
from pipeline.notifications.notification import Sms
from pipeline.notifications.providers.twilio_lean import sender_fields, tls_context
from pipeline.notifications.providers.twilio_reply import REPLY_BYTES_MAX, Reply
from pipeline.settings import SmsSettings

_API = "https://api.twilio.com"
_READ_BYTES = 65_536
_PARAMETERS = {
    "From": "from_",
    "MessagingServiceSid": "messaging_service_sid",
    "SmartEncoded": "smart_encoded",
}


class _Call:
    """One call: until when it may begin, whether it has, and the reply as it came."""

    def __init__(self, send_before: float) -> None:
        self.send_before = send_before
        self.has_begun = False
        self.reply: Reply | None = None


_call: ContextVar[_Call] = ContextVar("call")


class SdkClient:
    """Makes requests of the Messages API. See TwilioClient.

    The SDK builds the requests. What a reply means is read from the reply itself, as for the lean client.
    """

    def __init__(self, settings: SmsSettings, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._base_url = settings.base_url.rstrip("/")
        self._http = _HttpClient(settings, monotonic)
        self._sender = {_PARAMETERS[name]: value for name, value in sender_fields(settings).items()}
        # An environment of its own: TWILIO_EDGE or TWILIO_REGION would turn the SDK to another host.
        self._client = Client(
            settings.account_sid, settings.auth_token, http_client=self._http, environment={"HOME": "/"}
        )

    async def create(self, message: Sms) -> Reply:
        """Ask for a message to be sent."""
        optional: dict[str, Any] = {}
        if message.callback_url is not None:
            optional["status_callback"] = message.callback_url
        if message.valid_s is not None:
            optional["validity_period"] = message.valid_s
        return await self._ask(
            message.send_before,
            lambda: self._client.messages.create_async(
                to=message.to, body=message.body, **self._sender, **optional
            ),
        )

    async def get(self, target: str) -> Reply:
        """Fetch a path with its query."""
        return await self._ask(inf, lambda: self._client.request_async("GET", f"{self._base_url}{target}"))

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()

    @staticmethod
    async def _ask(send_before: float, request: Callable[[], Any]) -> Reply:
        call = _Call(send_before)
        token = _call.set(call)
        try:
            await request()
        except (TwilioException, ValueError, TypeError, KeyError, AttributeError) as error:
            if call.reply is None:
                raise OutcomeUnknownError("bad_reply", type(error).__name__) from error
        finally:
            _call.reset(token)
        assert call.reply is not None
        return call.reply


class _HttpClient(AsyncTwilioHttpClient):  # type: ignore[misc]  # the SDK is untyped
    """The SDK's HTTP client on a session of ours: a base URL, a time-out that is honoured, no retries.

    The SDK's own client ignores its constructor's time-out (9.13.0), offers retries of POSTs, which would
    send an SMS twice, and logs URLs and numbers.
    """

    def __init__(self, settings: SmsSettings, monotonic: Callable[[], float]) -> None:
        super().__init__(pool_connections=False)
        self._settings = settings
        self._tls = tls_context(settings)
        self._monotonic = monotonic
        self._session: ClientSession | None = None

    async def request(  # noqa: PLR0917  # the SDK's signature
        self,
        method: str,
        url: str,
        params: dict[str, object] | None = None,
        data: dict[str, object] | None = None,
        headers: dict[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109
        allow_redirects: bool = False,  # noqa: ARG002, FBT001, FBT002  # never: credentials would follow
    ) -> Response:
        """Make a request. Raises what TwilioClient says."""
        call = _call.get()
        try:
            async with self._open_session().request(
                method,
                url.replace(_API, self._settings.base_url.rstrip("/"), 1),
                params=params,  # type: ignore[arg-type]  # the SDK passes texts and numbers
                data=data,
                headers={**(headers or {}), **({"Authorization": encode_basic_auth(*auth)} if auth else {})},
                allow_redirects=False,
                trace_request_ctx=call,
            ) as response:
                body = await _read(response)
        except (TimeoutError, ClientError, OSError) as error:
            raise _lost(error, call) from error
        call.reply = Reply(
            response.status, body, response.headers.get("Retry-After"), response.headers.get("Date")
        )
        return Response(response.status, body.decode("utf-8", "replace"), dict(response.headers))

    def _open_session(self) -> ClientSession:
        if self._session is None:
            trace = TraceConfig()
            # Called when a connection is there and the next step writes: there is no later place.
            trace.on_request_chunk_sent.append(self._before_writing)
            self._session = ClientSession(
                connector=TCPConnector(
                    limit=self._settings.concurrency,
                    ssl=self._tls or True,
                    keepalive_timeout=self._settings.connection_idle_s,
                ),
                timeout=ClientTimeout(
                    total=self._settings.timeout_s,
                    connect=self._settings.connect_timeout_s,
                ),
                trace_configs=[trace],
            )
        return self._session

    async def _before_writing(
        self, _session: ClientSession, context: SimpleNamespace, _params: TraceRequestChunkSentParams
    ) -> None:
        call: _Call = context.trace_request_ctx
        if self._monotonic() >= call.send_before:
            raise LeaseEndedError
        call.has_begun = True

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


async def _read(response: ClientResponse) -> bytes:
    """Return the body. Raises OutcomeUnknownError when it is too large."""
    parts = []
    size = 0
    async for part in response.content.iter_chunked(_READ_BYTES):
        parts.append(part)
        size += len(part)
        if size > REPLY_BYTES_MAX:
            response.close()
            raise OutcomeUnknownError("bad_reply", "the reply is too large")
    return b"".join(parts)


def _lost(error: Exception, call: _Call) -> OutcomeUnknownError | ThrottledError | LeaseEndedError:
    if isinstance(error.__cause__, LeaseEndedError):
        return error.__cause__  # aiohttp wraps what its traces raise
    if not call.has_begun:
        return ThrottledError("unreachable", f"no connection: {type(error).__name__}")
    return OutcomeUnknownError("no_reply", type(error).__name__)
