"""What each SMTP command does and answers, without any I/O."""

import time
from typing import Final

import msgspec

from stack.smtp.authentication import CAPABILITY
from stack.smtp.command import Path, SmtpRefusal, check_mail_parameters, read_path
from stack.smtp.host import CAPABILITIES, SmtpHost
from stack.smtp.mail_store import Mail

RECIPIENTS_MAX: Final = 1000
LINE_BYTES_MAX: Final = 1000  # of a mail, with its CRLF


class Reply(msgspec.Struct, frozen=True):
    """One or more lines of text under one code."""

    code: int
    lines: tuple[str, ...]

    @classmethod
    def of(cls, code: int, text: str) -> "Reply":
        """Return a reply of one line."""
        return cls(code, (text,))

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        *first, last = self.lines
        more = "".join(f"{self.code}-{line}\r\n" for line in first) if first else ""
        return f"{more}{self.code} {last}\r\n".encode()


OK: Final = Reply.of(250, "2.0.0 OK")
_KNOWN: Final = Reply.of(235, "2.7.0 Authentication successful")
_SENDER_OK: Final = Reply.of(250, "2.1.0 OK")
_RECIPIENT_OK: Final = Reply.of(250, "2.1.5 OK")
_GO_AHEAD: Final = Reply.of(354, "End with a dot on a line of its own")
_FIXED: Final = {
    "STARTTLS": Reply.of(220, "2.0.0 Ready to start TLS"),
    "VRFY": Reply.of(252, "2.1.5 Send some mail and see"),
    "QUIT": Reply.of(221, "2.0.0 Bye"),
}
OVERSIZED: Final = Reply.of(552, "5.3.4 Message size exceeds the limit")


class SmtpDialogue:
    """One connection's state as SMTP sees it: greeted or not, in the clear or not, and the transaction."""

    def __init__(self, host: SmtpHost, connection: int) -> None:
        self._host = host
        self._connection = connection
        self._mails = 0
        self._tls = False
        self.restart(tls=False)

    def restart(self, *, tls: bool) -> None:
        """Begin anew, as after the TLS handshake."""
        self._tls = tls
        self._greeted = False
        self._is_known = self._host.settings.credentials is None
        self.drop_transaction()

    def drop_transaction(self) -> None:
        """Forget sender and recipients."""
        self.sender: str | None = None
        self.recipients: list[str] = []
        self._smtputf8 = False

    def parties(self, stage: str, argument: bytes) -> tuple[list[str], str]:
        """Return the recipients and the sender that fault rules match at this stage."""
        if stage not in {"MAIL", "RCPT"}:
            return self.recipients, self.sender or ""
        try:
            address = read_path(stage, argument).address
        except SmtpRefusal:
            address = ""
        return ([], address) if stage == "MAIL" else ([address], self.sender or "")

    def serve(self, stage: str, argument: bytes) -> Reply:
        """Carry out a command and return the reply; at `DATA_END` the argument is the mail."""
        try:
            match stage:
                case "MAIL":
                    return self._mail(read_path(stage, argument))
                case "RCPT":
                    return self._rcpt(read_path(stage, argument))
                case "DATA":
                    return self._data()
                case "DATA_END":
                    return self._keep(argument)
                case _:
                    return self._other(stage, argument)
        except SmtpRefusal as refusal:
            return Reply.of(refusal.code, refusal.text)

    def _other(self, stage: str, argument: bytes) -> Reply:
        if stage in {"EHLO", "HELO"}:
            return self._greet(extended=stage == "EHLO")
        if stage == "CONNECT":
            return Reply.of(220, f"{self._host.settings.hostname} ESMTP")
        if stage == "STARTTLS" and not self._offers_tls:
            raise SmtpRefusal(502, "5.5.1 STARTTLS is not available")
        if stage == "AUTH":
            return self._sign_in(argument)
        if stage == "RSET":
            self.drop_transaction()
        return _FIXED.get(stage, OK)

    @property
    def _offers_tls(self) -> bool:
        return self._host.tls is not None and not self._tls

    def _greet(self, *, extended: bool) -> Reply:
        self.drop_transaction()
        self._greeted = True
        lines = [self._host.settings.hostname]
        if extended:
            lines += [f"SIZE {self._host.settings.mail_bytes_max}", *CAPABILITIES]
            if self._offers_tls:
                lines.append("STARTTLS")
            elif not self._is_known:
                lines.append(CAPABILITY)
        return Reply(250, tuple(lines))

    def _sign_in(self, argument: bytes) -> Reply:
        credentials = self._host.settings.credentials
        if credentials is None or self._offers_tls:
            raise SmtpRefusal(502, "5.5.1 AUTH is not available")
        if not self._greeted or self._is_known or self.sender is not None:
            raise SmtpRefusal(503, "5.5.1 AUTH is not for now")
        credentials.check(argument)
        self._is_known = True
        return _KNOWN

    def _mail(self, path: Path) -> Reply:
        if not self._greeted:
            raise SmtpRefusal(503, "5.5.1 Say EHLO first")
        if not self._is_known:
            raise SmtpRefusal(530, "5.7.0 Authentication required")
        if self.sender is not None:
            raise SmtpRefusal(503, "5.5.1 There is a transaction already")
        self._smtputf8 = check_mail_parameters(path, self._host.settings.mail_bytes_max)
        self.sender = path.address
        return _SENDER_OK

    def _rcpt(self, path: Path) -> Reply:
        if self.sender is None:
            raise SmtpRefusal(503, "5.5.1 Say MAIL first")
        if path.parameters:
            raise SmtpRefusal(555, "5.5.4 No parameters of RCPT are supported")
        if not (self._smtputf8 or path.address.isascii()):
            raise SmtpRefusal(553, "5.6.7 Address needs SMTPUTF8")
        if len(self.recipients) >= RECIPIENTS_MAX:
            raise SmtpRefusal(452, "4.5.3 Too many recipients")
        self.recipients.append(path.address)
        return _RECIPIENT_OK

    def _data(self) -> Reply:
        if self.sender is None:
            raise SmtpRefusal(503, "5.5.1 Say MAIL first")
        if not self.recipients:
            raise SmtpRefusal(554, "5.5.1 No valid recipients")
        return _GO_AHEAD

    def _keep(self, raw: bytes) -> Reply:
        sender, recipients, smtputf8 = self.sender, tuple(self.recipients), self._smtputf8
        self.drop_transaction()
        if len(raw) > self._host.settings.mail_bytes_max:
            return OVERSIZED
        # Without its line feed, a line may have 999 bytes; short mails need no counting.
        if len(raw) >= LINE_BYTES_MAX and max(map(len, raw.split(b"\n"))) >= LINE_BYTES_MAX:
            raise SmtpRefusal(554, "5.6.0 Line too long")
        self._mails += 1
        mail = Mail(
            mail_from=sender or "",
            rcpt_tos=recipients,
            raw=raw,
            connection=self._connection,
            number_in_connection=self._mails,
            received_at=time.time(),
            tls=self._tls,
            smtputf8=smtputf8,
        )
        return Reply.of(250, f"2.0.0 OK: kept as {self._host.store.append(mail, raw)}")
