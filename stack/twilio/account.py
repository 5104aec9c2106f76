"""One emulated Twilio account: what it accepted, who opted out, and how it behaves."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from stack.standin.turnstile import Turnstile
from stack.twilio.behaviour import Behaviour, Conduct
from stack.twilio.errors import RequestRefused
from stack.twilio.message_journal import Accepted, Amended, Entry, MessageJournal, Opened, OptOutChanged
from stack.twilio.messages import Message, MessageStore
from stack.twilio.resource import API_VERSION, MessageResource, failure
from stack.twilio.sms_segments import segment_count
from stack.twilio.status_callbacks import Callback, CallbackSender

STOP_WORDS: Final = frozenset({"STOP", "STOPALL", "UNSUBSCRIBE", "CANCEL", "END", "QUIT", "OPTOUT", "REVOKE"})
START_WORDS: Final = frozenset({"START", "YES", "UNSTOP"})
OPT_OUTS_MAX: Final = 1_000_000


class TwilioAccount:
    """Accepts messages and lives up to them. Opt-outs hold for all of the account's senders."""

    def __init__(
        self,
        sid: str,
        auth_token: str,
        messages_max: int,
        data_dir: Path | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.sid = sid
        self.clock = clock
        self.store = MessageStore(messages_max)
        self.resource = MessageResource(sid, self.store)
        self.conduct = Conduct(Behaviour())
        self.callbacks = CallbackSender(auth_token, self.conduct)
        self.accepted = Turnstile()
        self.opted_out: set[str] = set()
        self._journal = None if data_dir is None else MessageJournal(data_dir)
        if self._journal is not None:
            for entry in self._journal.replay():
                self._restore(entry)

    def behave(self, behaviour: Behaviour) -> None:
        """Behave like this from now on; messages already accepted keep their plans."""
        self.conduct = self.callbacks.conduct = Conduct(behaviour)

    def reset(self) -> None:
        """Forget everything and behave well."""
        self.store.clear()
        self.opted_out.clear()
        self.callbacks.clear()
        self.accepted.reset()
        self.behave(Behaviour())
        if self._journal is not None:
            self._journal.clear()

    def close(self) -> None:
        """Close the journal."""
        if self._journal is not None:
            self._journal.close()

    def accept(self, message: Message) -> Message:
        """Keep and deliver a message; raises `RequestRefused` if its recipient opted out."""
        if message.to in self.opted_out:
            raise RequestRefused(21610)
        message.created = self.clock()
        message.final, message.error_code, message.delivery_s = self.conduct.outcome(
            message.to, message.sender or ""
        )
        self._keep(message)
        if message.callback_url is not None:
            for at, status in message.steps():
                self.callbacks.put(at, self._status_callback(message, message.callback_url, status))
        return message

    def receive(self, to: str, sender: str, body: str) -> tuple[Message, str | None]:
        """Take a message from a handset; return it and the kind of opt-out word it is, if any."""
        word = body.strip().upper()
        opt_out_type = "STOP" if word in STOP_WORDS else "START" if word in START_WORDS else None
        if opt_out_type is not None:
            self._opt_out(sender, out=opt_out_type == "STOP")
        message = Message(to=to, sender=sender, body=body, initial="received", final="received")
        message.segments = segment_count(body)
        message.created = self.clock()
        self._keep(message)
        if self.conduct.behaviour.inbound_url is not None:
            webhook = self._inbound_webhook(message, self.conduct.behaviour.inbound_url, opt_out_type)
            self.callbacks.put(message.created, webhook)
        return message, opt_out_type

    def redact(self, message: Message) -> None:
        """Remove the text."""
        self._amend(Amended(number=message.number, at=self.clock(), body=""))

    def cancel(self, message: Message) -> None:
        """Cancel a message that is still scheduled; raises `RequestRefused` if it is not."""
        now = self.clock()
        if message.standing(now)[0] != "scheduled":
            raise RequestRefused(30409)
        self._amend(Amended(number=message.number, at=now, final="canceled"))

    def delete(self, message: Message) -> None:
        """Delete the record of a message."""
        self._amend(Amended(number=message.number, at=self.clock(), final="deleted"))

    def _keep(self, message: Message) -> None:
        self.store.append(message)
        self._record(Accepted(message))
        if not message.inbound:
            self.accepted.add()

    def _opt_out(self, recipient: str, *, out: bool) -> None:
        if not out:
            self.opted_out.discard(recipient)
        elif len(self.opted_out) < OPT_OUTS_MAX:
            self.opted_out.add(recipient)
        self._record(OptOutChanged(recipient, out))

    def _amend(self, change: Amended) -> None:
        self._apply(change)
        self._record(change)

    def _apply(self, change: Amended) -> None:
        message = self.store.ring.get(change.number)
        if message is None:
            return
        message.edited = change.at
        if change.body is not None:
            message.body = change.body
        if change.final is not None:
            message.final = change.final

    def _record(self, entry: Entry) -> None:
        if self._journal is None:
            return
        if self._journal.needs_segment:
            kept = self.store.ring
            first = kept.next_number - isinstance(entry, Accepted)
            head = Opened(f"{self.store.run:016x}", first, sorted(self.opted_out))
            self._journal.open_segment(head, kept.oldest_number)
        self._journal.write(entry)

    def _restore(self, entry: Entry) -> None:
        match entry:
            case Opened():
                if not len(self.store.ring):
                    self.store.clear(int(entry.run, 16), entry.first)
                self.opted_out = set(entry.opted_out)
            case Accepted():
                self.store.append(entry.message)
                if not entry.message.inbound:
                    self.accepted.add()
            case Amended():
                self._apply(entry)
            case OptOutChanged():
                (self.opted_out.add if entry.out else self.opted_out.discard)(entry.recipient)

    def _status_callback(self, message: Message, url: str, status: str) -> Callback:
        sid = self.store.sid(message)
        params = {
            "AccountSid": self.sid,
            "ApiVersion": API_VERSION,
            "From": message.sender or "",
            "MessageSid": sid,
            "MessageStatus": status,
            "SmsSid": sid,
            "SmsStatus": status,
            "To": message.to,
        }
        if message.service_sid is not None:
            params["MessagingServiceSid"] = message.service_sid
        error_code, _ = failure(message, status)
        if error_code is not None:
            params["ErrorCode"] = str(error_code)
        return Callback(url=url, params=params, message=message)

    def _inbound_webhook(self, message: Message, url: str, opt_out_type: str | None) -> Callback:
        sid = self.store.sid(message)
        params = {
            "AccountSid": self.sid,
            "ApiVersion": API_VERSION,
            "Body": message.body,
            "From": message.sender or "",
            "MessageSid": sid,
            "NumMedia": "0",
            "NumSegments": str(message.segments),
            "SmsMessageSid": sid,
            "SmsSid": sid,
            "SmsStatus": "received",
            "To": message.to,
        }
        if opt_out_type is not None:
            params["OptOutType"] = opt_out_type
        return Callback(url=url, params=params, message=message)
