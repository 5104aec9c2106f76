"""E-mail by SMTP: connections opened by aiosmtplib and kept, mails handed over by SmtpSession."""

import asyncio
import ssl
from collections import deque
from datetime import datetime
from time import monotonic
from typing import cast

import aiosmtplib
from aiosmtplib.errors import SMTPAuthenticationError, SMTPException, SMTPHeloError, SMTPResponseException

from pipeline.clock import Clock
from pipeline.errors import AccountRefusedError, DocumentError, ThrottledError, TooLargeError
from pipeline.notifications.mail.mime import MailWriter
from pipeline.notifications.mail.signature import signer_of
from pipeline.notifications.notification import Email
from pipeline.notifications.provider import Accepted, CannotTell
from pipeline.notifications.providers.smtp_judgement import PERMANENT, signing_in_refusal
from pipeline.notifications.providers.smtp_session import SmtpSession
from pipeline.notifications.providers.trust import trusting
from pipeline.settings import EmailSettings

_GOODBYE_S_MAX = 2.0


class SmtpProvider:
    """Sends mail through one relay. `id_domain`: as in MailWriter; one for all relays of a channel."""

    def __init__(
        self,
        settings: EmailSettings,
        *,
        sender_name: str,
        clock: Clock,
        name: str = "smtp",
        id_domain: str = "",
    ) -> None:
        self.name = name
        self._settings = settings
        self._clock = clock
        self._writer = MailWriter(sender=settings.from_address, sender_name=sender_name, id_domain=id_domain)
        self._sign = signer_of(settings)
        self._helo_name = settings.helo_name or settings.from_address.rpartition("@")[2]
        self._tls_context = (
            None if settings.tls == "none" else trusting(settings.ca_file, key="email.ca_file")
        )
        self._idle: deque[SmtpSession] = deque()

    def __repr__(self) -> str:
        return f"SmtpProvider({self._settings.host}:{self._settings.port}, {len(self._idle)} idle)"

    async def send(self, message: Email) -> Accepted:
        """Send one mail. See EmailProvider for the errors."""
        text = self._writer.write(message, self._clock.now())
        if self._sign is not None:
            text = self._sign(text)
        session = self._kept() or await self._open()
        try:
            await session.submit(self._settings.from_address, message.to, text, message.send_before)
        except TooLargeError as error:
            _blame_largest(message, error)
            raise
        finally:
            self._keep(session)
        return Accepted(self.name, self._writer.message_id(message))

    async def find(self, message: Email, since: datetime) -> CannotTell:  # noqa: ARG002  # EmailProvider's
        """SMTP has no way to ask."""
        return CannotTell("smtp", is_final=True)

    async def close(self) -> None:
        """Close every idle connection politely."""
        sessions = list(self._idle)
        self._idle.clear()
        await asyncio.gather(*(session.quit(_GOODBYE_S_MAX) for session in sessions))

    def _kept(self) -> SmtpSession | None:
        """Return the connection that was used last, which leaves those too many to grow old."""
        while self._idle:
            session = self._idle.pop()
            if session.is_idle and monotonic() - session.used_at < self._settings.connection_idle_s:
                return session
            session.leave()
        return None

    def _keep(self, session: SmtpSession) -> None:
        settings = self._settings
        is_young = monotonic() - session.opened_at < settings.connection_age_s
        if session.is_idle and is_young and session.mails < settings.mails_per_connection:
            self._idle.append(session)
        else:
            session.leave()

    async def _open(self) -> SmtpSession:
        """Open a connection. Raises ThrottledError: nothing was handed over, so another try is safe."""
        client = self._client()
        try:
            async with asyncio.timeout(self._settings.timeout_s):
                await client.connect()
                if client.is_ehlo_or_helo_needed:
                    await _greet(client)
                if self._settings.username:
                    await self._sign_in(client)
        except ThrottledError:
            client.close()
            raise
        except (SMTPException, OSError, TimeoutError, ValueError) as error:
            client.close()
            raise _no_session(error) from error
        if client.transport is None or client.transport.is_closing():
            raise ThrottledError("unreachable", "the relay closed the session at once")
        size = client.esmtp_extensions.get("size", "").strip()
        return SmtpSession(
            cast("asyncio.Transport", client.transport),
            pipelining=client.supports_extension("pipelining"),
            size_bytes_max=int(size) if size.isascii() and size.isdigit() and int(size) else None,
            timeout_s=self._settings.timeout_s,
        )

    def _client(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            timeout=settings.timeout_s,
            local_hostname=self._helo_name,
            use_tls=settings.tls == "implicit",
            # Never opportunistic: "starttls" fails when the server does not offer it.
            start_tls=settings.tls == "starttls",
            tls_context=self._tls_context,
        )

    async def _sign_in(self, client: aiosmtplib.SMTP) -> None:
        """Sign in by one of the ways the relay offers; a way it refuses may be one it does not really have.

        aiosmtplib's login() forgets a refusal when the relay hangs up at the next way, as after a wrong
        password many do.
        """
        refusal: SMTPAuthenticationError | None = None
        for way in client.supported_auth_methods:
            authenticate = getattr(client, f"auth_{way.replace('-', '')}")
            try:
                await authenticate(self._settings.username, self._settings.password)
            except SMTPAuthenticationError as error:
                refusal = error
            except (SMTPException, OSError):
                if refusal is None:
                    raise
                break
            else:
                return
        if refusal is None:
            raise AccountRefusedError("auth", "the relay offers no way to sign in that we know")
        raise signing_in_refusal(refusal.code) from refusal


def _blame_largest(message: Email, error: TooLargeError) -> None:
    """Raise DocumentError for the largest invoice of a mail that is too large, if it has any."""
    invoices = [attachment for attachment in message.attachments if attachment.invoice_id]
    if invoices:
        largest = max(invoices, key=lambda invoice: len(invoice.content))
        raise DocumentError(largest.invoice_id, f"makes a mail that is too large: {error.code}") from error


def _no_session(error: Exception) -> ThrottledError:
    if isinstance(error, SMTPResponseException):
        return ThrottledError(str(error.code), "the relay refuses the session")
    for cause in (error, error.__cause__):  # with implicit TLS aiosmtplib wraps it
        if isinstance(cause, ssl.SSLError):
            return ThrottledError("tls", f"no TLS with the relay: {type(cause).__name__}")
    return ThrottledError("unreachable", f"no session with the relay: {type(error).__name__}")


async def _greet(client: aiosmtplib.SMTP) -> None:
    try:
        await client.ehlo()
    except SMTPHeloError as error:
        if error.code < PERMANENT:
            raise
        await client.helo()  # a server of before 1995, which has no extensions
