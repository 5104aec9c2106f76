"""The control API of the Twilio emulator: what it accepted, how it answered, how it is to behave."""

import time
from collections import Counter
from itertools import islice
from typing import Annotated, Any, Final

import msgspec
from aiohttp import web
from msgspec import Meta

from stack.standin.control_api import ControlApi, Nothing, read_body, read_query
from stack.twilio.account import TwilioAccount
from stack.twilio.api import TwilioApi
from stack.twilio.behaviour import Behaviour
from stack.twilio.messages import Message
from stack.twilio.resource import failure

WAIT_S_MAX: Final = 120


class MessagesQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Filters and page of `GET messages`; `since` is a UNIX time, `after` a message number."""

    to: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    since: float = 0.0
    after: Annotated[int, Meta(ge=0)] = 0
    limit: Annotated[int, Meta(ge=1, le=10_000)] = 1000


class WaitQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How many accepted messages and settled callbacks `GET wait` waits for."""

    messages: Annotated[int, Meta(ge=0)] = 0
    callbacks: Annotated[int, Meta(ge=0)] = 0
    timeout_s: Annotated[float, Meta(gt=0, le=WAIT_S_MAX)] = 10.0


class Inbound(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="pascal"):
    """A text somebody sends from a handset to one of the account's numbers."""

    from_: Annotated[str, Meta(min_length=1, max_length=100)] = msgspec.field(name="From")
    to: Annotated[str, Meta(min_length=1, max_length=100)]
    body: Annotated[str, Meta(max_length=1600)] = ""


class TwilioControl:
    """The endpoints, on top of the account and the API in front of it."""

    def __init__(self, account: TwilioAccount, api: TwilioApi) -> None:
        self._account = account
        self._api = api
        self._started = time.monotonic()
        self.handle = ControlApi(
            {
                "GET health": self._health,
                "GET messages": self._messages,
                "GET requests": self._requests,
                "GET wait": self._wait,
                "POST reset": self._reset,
                "GET behaviour": self._behaviour,
                "PUT behaviour": self._behave,
                "GET faults": self._faults,
                "POST inbound": self._inbound,
            }
        ).handle

    async def _health(self, _request: web.BaseRequest, _: str) -> Any:
        uptime_s = round(time.monotonic() - self._started, 3)
        return {"status": "ok", "program": "twilio_emulator", "uptime_s": uptime_s, **self._totals()}

    def _totals(self) -> dict[str, int]:
        store = self._account.store
        return {
            "total": self._account.accepted.count,
            "kept": len(store.ring),
            "kept_max": store.ring.records_max,
            "evicted": store.ring.evictions,
            "duplicates": store.duplicates,
        }

    async def _messages(self, request: web.BaseRequest, _: str) -> Any:
        query = read_query(request, MessagesQuery)
        found = (
            message
            for message in self._account.store.ring.upwards(query.after + 1)
            if message.final != "deleted"
            and (query.to is None or message.to == query.to)
            and (query.sender is None or message.sender == query.sender)
            and message.created >= query.since
        )
        page = list(islice(found, query.limit + 1))
        shown = page[: query.limit]
        now = self._account.clock()
        return {
            "total": self._account.accepted.count,
            "messages": [self._describe(message, now) for message in shown],
            "next_after": shown[-1].number if len(page) > query.limit else None,
        }

    def _describe(self, message: Message, now: float) -> dict[str, Any]:
        status, since, sent = message.standing(now)
        return {
            "number": message.number,
            "sid": self._account.store.sid(message),
            "direction": "inbound" if message.inbound else "outbound-api",
            "to": message.to,
            "from": message.sender,
            "body": message.body,
            "messaging_service_sid": message.service_sid,
            "segments": message.segments,
            "media": message.media_count,
            "status_callback": message.callback_url,
            "status": status,
            "error_code": failure(message, status)[0],
            "created_at": message.created,
            "status_at": since,
            "sent_at": sent,
        }

    async def _requests(self, _request: web.BaseRequest, _: str) -> Any:
        routes: Counter[str] = Counter()
        statuses: Counter[str] = Counter()
        outcomes: Counter[str] = Counter()
        for (route, status, outcome), number in self._api.counts.items():
            routes[route] += number
            statuses[status] += number
            outcomes[outcome] += number
        store, callbacks = self._account.store, self._account.callbacks
        return {
            "total": routes.total(),
            "by_route": routes,
            "by_status": statuses,
            "by_outcome": outcomes,
            "messages": self._totals(),
            "first_duplicates": [
                {"number": number, "duplicate_of": earlier} for earlier, number in store.first_duplicates
            ],
            "opted_out": len(self._account.opted_out),
            "callbacks": {
                "pending": callbacks.pending,
                "settled": callbacks.settled.count,
                **callbacks.counts,
            },
        }

    async def _wait(self, request: web.BaseRequest, _: str) -> Any:
        query = read_query(request, WaitQuery)
        deadline = time.monotonic() + query.timeout_s
        reached = await self._account.accepted.reach(query.messages, query.timeout_s)
        left_s = max(0.0, deadline - time.monotonic())
        reached = await self._account.callbacks.settled.reach(query.callbacks, left_s) and reached
        return {
            "reached": reached,
            "messages": self._account.accepted.count,
            "callbacks": self._account.callbacks.settled.count,
        }

    async def _reset(self, request: web.BaseRequest, _: str) -> Any:
        await read_body(request, Nothing)
        self._account.reset()
        self._api.counts.clear()
        return {"reset": True}

    async def _behaviour(self, _request: web.BaseRequest, _: str) -> Any:
        return self._account.conduct.behaviour

    async def _behave(self, request: web.BaseRequest, _: str) -> Any:
        self._account.behave(await read_body(request, Behaviour))
        return self._account.conduct.behaviour

    async def _faults(self, _request: web.BaseRequest, _: str) -> Any:
        return {"faults": self._account.conduct.plan.report()}

    async def _inbound(self, request: web.BaseRequest, _: str) -> Any:
        inbound = await read_body(request, Inbound)
        message, opt_out_type = self._account.receive(inbound.to, inbound.from_, inbound.body)
        return {
            "sid": self._account.store.sid(message),
            "opt_out_type": opt_out_type,
            "opted_out": inbound.from_ in self._account.opted_out,
            "webhook": self._account.conduct.behaviour.inbound_url,
        }
