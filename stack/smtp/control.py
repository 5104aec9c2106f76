"""The control API of the SMTP sink: what it took, how it answered, how it is to behave."""

import asyncio
import time
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from stack.smtp.behaviour import SmtpBehaviour, SmtpConduct
from stack.smtp.host import SmtpHost
from stack.smtp.mail_store import Mail
from stack.smtp.mail_view import view
from stack.standin.control_api import ControlApi, ControlRefused, Nothing, read_body, read_query

WAIT_S_MAX: Final = 120
PARSED_MAX: Final = 1000  # mails in one reply; parsing takes milliseconds each


class MailsQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters and page of `GET messages`; `since` is a UNIX time, `after` a mail number."""

    rcpt: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    message_id: str | None = None
    since: float = 0.0
    after: Annotated[int, Meta(ge=0)] = 0
    offset: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 100
    bodies: Annotated[int, Meta(ge=0, le=1)] = 0

    def admits(self, mail: Mail) -> bool:
        """Tell whether a mail passes the filters."""
        return (
            (self.rcpt is None or self.rcpt in mail.rcpt_tos)
            and (self.sender is None or mail.mail_from == self.sender)
            and (self.message_id is None or mail.message_id == self.message_id)
            and mail.received_at >= self.since
        )


class WaitQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many mails `GET wait` waits for."""

    messages: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=WAIT_S_MAX)] = 10.0


class SmtpControl:
    """The endpoints."""

    def __init__(self, host: SmtpHost) -> None:
        self._host = host
        self._started = time.monotonic()
        self.handle = ControlApi(
            {
                "GET health": self._health,
                "GET messages": self._messages,
                "GET messages/*": self._message,
                "GET messages/*/raw": self._raw,
                "GET stats": self._stats,
                "GET wait": self._wait,
                "POST reset": self._reset,
                "GET behaviour": self._behaviour,
                "PUT behaviour": self._behave,
                "GET faults": self._faults,
            }
        ).handle

    async def _health(self, _request: web.BaseRequest, _: str) -> Any:
        uptime_s = round(time.monotonic() - self._started, 3)
        return {"status": "ok", "program": "smtp_sink", "uptime_s": uptime_s, **self._totals()}

    def _totals(self) -> dict[str, int]:
        store = self._host.store
        return {
            "total": store.accepted.count,
            "kept": len(store.ring),
            "kept_max": store.ring.records_max,
            "evicted": store.ring.evictions,
            "bytes": store.bytes,
            "bytes_max": store.bytes_max,
            "evicted_bodies": store.body_evictions,
            "duplicates": store.duplicates,
            "without_message_id": store.without_id,
        }

    async def _messages(self, request: web.BaseRequest, _: str) -> Any:
        query = read_query(request, MailsQuery)
        if query.bodies and query.limit > PARSED_MAX:
            raise ControlRefused(400, f"with bodies=1, limit is at most {PARSED_MAX}")
        found = filter(query.admits, self._host.store.ring.upwards(query.after + 1))
        page = list(islice(found, query.offset, query.offset + query.limit + 1))
        shown = page[: query.limit]
        return {
            "total": self._host.store.accepted.count,
            "messages": await self._parsed(shown) if query.bodies else [_envelope(mail) for mail in shown],
            "next_after": shown[-1].number if len(page) > query.limit else None,
        }

    async def _message(self, _request: web.BaseRequest, number: str) -> Any:
        return (await self._parsed([self._find(number)]))[0]

    async def _parsed(self, mails: list[Mail]) -> list[dict[str, Any]]:
        # In a thread, because parsing a page of mails would hold up whoever is sending more of them.
        raws = [self._host.store.raw(mail) for mail in mails]
        parsed = await asyncio.to_thread(lambda: [None if raw is None else view(raw) for raw in raws])
        return [_envelope(mail) | {"parsed": each} for mail, each in zip(mails, parsed, strict=True)]

    async def _raw(self, _request: web.BaseRequest, number: str) -> Any:
        raw = self._host.store.raw(self._find(number))
        if raw is None:
            raise ControlRefused(410, "the text of this mail was evicted")
        return web.Response(body=raw, content_type="message/rfc822")

    def _find(self, number: str) -> Mail:
        digits = number if number.isascii() and number.isdigit() else "0"
        mail = self._host.store.ring.get(int(digits[:20]))
        if mail is None:
            raise ControlRefused(404, f"no mail {number[:20]}")
        return mail

    async def _stats(self, _request: web.BaseRequest, _: str) -> Any:
        host, store = self._host, self._host.store
        spool = store.spool
        return {
            "messages": self._totals(),
            "first_duplicates": [
                {"number": number, "duplicate_of": earlier} for earlier, number in store.first_duplicates
            ],
            "connections": {"open": host.connections_open, **host.connections},
            "verbs": host.replies,
            "spool": None
            if spool is None
            else {
                "directory": str(spool.directory),
                "files": spool.files,
                "bytes": spool.bytes,
                "skipped": spool.skipped,
            },
        }

    async def _wait(self, request: web.BaseRequest, _: str) -> Any:
        query = read_query(request, WaitQuery)
        reached = await self._host.store.accepted.reach(query.messages, query.timeout_s)
        return {"reached": reached, "messages": self._host.store.accepted.count}

    async def _reset(self, request: web.BaseRequest, _: str) -> Any:
        await read_body(request, Nothing)
        self._host.reset()
        return {"reset": True}

    async def _behaviour(self, _request: web.BaseRequest, _: str) -> Any:
        return self._host.conduct.behaviour

    async def _behave(self, request: web.BaseRequest, _: str) -> Any:
        self._host.conduct = SmtpConduct(await read_body(request, SmtpBehaviour))
        return self._host.conduct.behaviour

    async def _faults(self, _request: web.BaseRequest, _: str) -> Any:
        return {"faults": self._host.conduct.plan.report()}


def _envelope(mail: Mail) -> dict[str, Any]:
    return {
        "number": mail.number,
        "mail_from": mail.mail_from,
        "rcpt_tos": mail.rcpt_tos,
        "message_id": mail.message_id,
        "received_at": mail.received_at,
        "size": mail.size,
        "connection": mail.connection,
        "number_in_connection": mail.number_in_connection,
        "tls": mail.tls,
        "smtputf8": mail.smtputf8,
    }
