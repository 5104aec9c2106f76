"""SMS by Twilio's Messages API, through Twilio's own SDK."""

import msgspec
from aiohttp import (
    BasicAuth,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientTimeout,
    ConnectionTimeoutError,
    TCPConnector,
)
from twilio.base.exceptions import TwilioException, TwilioRestException, TwilioServiceException
from twilio.http.async_http_client import AsyncTwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client

from pipeline.errors import (
    OutcomeUnknownError,
    ProviderError,
    RecipientRefusedError,
    RejectedError,
    ThrottledError,
)
from pipeline.notifications.notification import Sms
from pipeline.notifications.provider import Accepted
from pipeline.settings import SmsSettings

_API = "https://api.twilio.com"
_TOO_MANY_REQUESTS = 429
_SERVER_ERROR = 500
_RETRY_AFTER_S_MAX = 3600.0
# Source of the codes: twilio.com/docs/api/errors. No such mobile number, or opted out (21610).
_RECIPIENT_CODES = {21211, 21214, 21217, 21610, 21614, 21635}
# The account or sender is set up wrongly. The message is fine, and waits until that is mended.
_ACCOUNT_CODES = {20003, 21212, 21603, 21606, 21608, 401, 403}
_ACCOUNT_RETRY_S = 60.0


class _HttpClient(AsyncTwilioHttpClient):  # type: ignore[misc]  # the SDK is untyped
    """The SDK's HTTP client on a session of ours: a base URL, a time-out that is honoured, no retries.

    The SDK's own client ignores its constructor's time-out (9.13.0), offers retries of POSTs, which would
    send an SMS twice, and logs URLs and numbers.
    """

    def __init__(self, settings: SmsSettings) -> None:
        super().__init__(pool_connections=False)
        self._settings = settings
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
        """Make a request. Raises ThrottledError for 429, because the SDK drops Retry-After."""
        async with self._open_session().request(
            method,
            url.replace(_API, self._settings.base_url.rstrip("/"), 1),
            params=params,  # type: ignore[arg-type]  # the SDK passes texts and numbers
            data=data,
            headers=headers,
            auth=BasicAuth(*auth) if auth else None,
            allow_redirects=False,
        ) as response:
            text = await response.text()
            if response.status == _TOO_MANY_REQUESTS:
                raise ThrottledError(
                    _code_in(text), "too many requests", _seconds(response.headers.get("Retry-After"))
                )
            return Response(response.status, text, dict(response.headers))

    def _open_session(self) -> ClientSession:
        if self._session is None:
            self._session = ClientSession(
                connector=TCPConnector(limit=self._settings.concurrency),
                # Connecting has half of the time, so that its time-out is told from that of an answer.
                timeout=ClientTimeout(
                    total=self._settings.timeout_s, sock_connect=self._settings.timeout_s / 2
                ),
            )
        return self._session

    async def close(self) -> None:
        """Close every connection."""
        if self._session is not None:
            await self._session.close()
            self._session = None


class TwilioProvider:
    """Sends SMS through one Twilio account."""

    name = "twilio"

    def __init__(self, settings: SmsSettings) -> None:
        self._settings = settings
        self._http = _HttpClient(settings)
        # An environment of its own: TWILIO_EDGE or TWILIO_REGION would turn the SDK to another host.
        self._client = Client(
            settings.account_sid, settings.auth_token, http_client=self._http, environment={"HOME": "/"}
        )

    async def send(self, message: Sms) -> Accepted:
        """Send one SMS. See SmsProvider for the errors."""
        try:
            created = await self._client.messages.create_async(
                to=message.to, from_=self._settings.from_number, body=message.body
            )
        except (TwilioRestException, TwilioServiceException) as error:
            raise _refusal(error.status, error.code) from error
        except (ClientConnectorError, ConnectionTimeoutError) as error:
            raise ThrottledError("unreachable", "no connection to the API") from error
        except (TimeoutError, ClientError, OSError) as error:
            raise OutcomeUnknownError("no_reply", type(error).__name__) from error
        except (TwilioException, ValueError, TypeError, KeyError) as error:
            # A reply that is not what the API promises: the message may have been taken.
            raise OutcomeUnknownError("bad_reply", type(error).__name__) from error
        if not isinstance(created.sid, str) or not created.sid:
            raise OutcomeUnknownError("bad_reply", "no sid")
        return Accepted(self.name, created.sid)

    async def close(self) -> None:
        """Close every connection."""
        await self._http.close()


def _refusal(status: int, code: int | None) -> ProviderError:
    """Put an error reply into one of our classes. Texts are left out: they may quote the number."""
    name = str(code or status)
    if code in _RECIPIENT_CODES:
        return RecipientRefusedError(name, "refused for its recipient")
    if code in _ACCOUNT_CODES or status in _ACCOUNT_CODES:
        return ThrottledError(name, "account or sender refused: check [sms]", _ACCOUNT_RETRY_S)
    if status >= _SERVER_ERROR:
        return OutcomeUnknownError(name, "server error: may have been accepted")
    if status < 400:  # noqa: PLR2004  # a redirect or another success: not the reply of this API
        return OutcomeUnknownError(name, "unexpected status")
    return RejectedError(name, "refused")


def _code_in(text: str) -> str:
    try:
        return str(int(msgspec.json.decode(text)["code"]))
    except (msgspec.DecodeError, KeyError, TypeError, ValueError):
        return str(_TOO_MANY_REQUESTS)


def _seconds(retry_after: str | None) -> float | None:
    """Read Retry-After in seconds; dates and nonsense count as absent, and the sender backs off by itself."""
    try:
        seconds = float(retry_after or "")
    except ValueError:
        return None
    return min(seconds, _RETRY_AFTER_S_MAX) if seconds > 0 else None
