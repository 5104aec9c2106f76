"""The Messages part of Twilio's REST API, version 2010-04-01.

Served by aiohttp's low-level server: no application, router or middleware stands between the connection
and a create, because a load test counts on thousands of them a second.
"""

import base64
import binascii
import hmac
import re
from collections import Counter
from typing import Final

import orjson
from aiohttp import web
from multidict import MultiMapping

from stack.twilio.account import TwilioAccount
from stack.twilio.create_request import parse_form, read_message
from stack.twilio.errors import RequestRefused, error_body
from stack.twilio.fault_replies import FaultReplies, json_response
from stack.twilio.message_list import MessageList
from stack.twilio.messages import FINISHED, Message
from stack.twilio.resource import API_VERSION

UNAUTHORIZED: Final = 401
TOO_MANY_REQUESTS: Final = 429

_PATH: Final = re.compile(rf"/{API_VERSION}/Accounts/([^/]+)/Messages(?:/([^/]+))?\.json")
_LIST_ROUTES: Final = {"POST": "create", "GET": "list"}
_MESSAGE_ROUTES: Final = {"GET": "fetch", "POST": "update", "DELETE": "delete"}
_OUTCOMES: Final = {
    "create": "created",
    "list": "listed",
    "fetch": "fetched",
    "update": "updated",
    "delete": "deleted",
}


class TwilioApi:
    """Answers requests and counts how: by route, HTTP status ("closed": no reply) and outcome."""

    def __init__(self, account: TwilioAccount, auth_token: str) -> None:
        self._account = account
        self._credentials = f"{account.sid}:{auth_token}".encode()
        self._authorization = b"Basic " + base64.b64encode(self._credentials)
        self._list_path = f"{account.resource.collection_path}.json"
        self.counts: Counter[tuple[str, str, str]] = Counter()

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        route = "unknown"
        try:
            self._authenticate(request.headers.get("Authorization", ""))
            route, sid = self._route(request.method, request.rel_url.raw_path)
            if self._account.conduct.throttles():
                return self._throttle(route)
            return await self._answer(request, route, sid)
        except RequestRefused as refused:
            self.counts[route, str(refused.status), f"refused.{refused.code}"] += 1
            headers = (
                {"WWW-Authenticate": 'Basic realm="Twilio API"'} if refused.status == UNAUTHORIZED else None
            )
            body = error_body(refused.code, refused.status, str(refused))
            return json_response(refused.status, body, headers)

    def _authenticate(self, authorization: str) -> None:
        if hmac.compare_digest(authorization.encode(), self._authorization):
            return
        # The header can be written in more than one way; the usual one is done with above.
        scheme, _, encoded = authorization.partition(" ")
        try:
            credentials = base64.b64decode(encoded.strip(), validate=True)
        except (binascii.Error, ValueError):
            credentials = b""
        if scheme.lower() != "basic" or not hmac.compare_digest(credentials, self._credentials):
            raise RequestRefused(20003)

    def _route(self, method: str, path: str) -> tuple[str, str]:
        if path == self._list_path:
            sid, routes = "", _LIST_ROUTES
        else:
            found = _PATH.fullmatch(path)
            if found is None or found[1] != self._account.sid:
                raise RequestRefused(20404, path[:200])
            sid, routes = found[2] or "", _MESSAGE_ROUTES
        if method not in routes:
            raise RequestRefused(20004)
        return routes[method], sid

    def _throttle(self, route: str) -> web.Response:
        limit = self._account.conduct.behaviour.rate_limit
        self.counts[route, "429", "throttled"] += 1
        headers = None if limit is None or limit.retry_after is None else {"Retry-After": limit.retry_after}
        body = error_body(20429, TOO_MANY_REQUESTS, "Too Many Requests")
        return json_response(TOO_MANY_REQUESTS, body, headers)

    async def _answer(self, request: web.BaseRequest, route: str, sid: str) -> web.StreamResponse:
        conduct = self._account.conduct
        form = parse_form(await request.read())
        await conduct.linger()
        message = self._account.store.find(sid) if sid else None
        if sid and message is None:
            raise RequestRefused(20404, request.path)
        wanted = request.query if route == "list" else form
        to = wanted.get("To", "") if message is None else message.to
        sender = wanted.get("From", "") if message is None else message.sender or ""
        fault = conduct.plan.draw(route, (to,), sender)
        if fault is None:
            response = self._serve(request, route, form, message)
            self.counts[route, str(response.status), _OUTCOMES[route]] += 1
            return response
        replies = FaultReplies(request, fault, conduct)
        await replies.wait()
        previous_sid = self._account.store.newest_sid()
        served = self._serve(request, route, form, message) if fault.serves else None
        shown = await replies.show(served, previous_sid)
        gone = request.transport is None or request.transport.is_closing()
        self.counts[route, "closed" if gone else str(shown.status), f"fault.{fault.action}"] += 1
        return shown

    def _serve(
        self, request: web.BaseRequest, route: str, form: MultiMapping[str], message: Message | None
    ) -> web.Response:
        account = self._account
        now = account.clock()
        if message is None:
            if route == "create":
                return self._written(201, account.accept(read_message(form, now)), now)
            page = MessageList(account.store, self._list_path, request.query)
            visible_until = now - account.conduct.behaviour.list_lag_ms / 1000
            return json_response(200, orjson.dumps(page.read(now, visible_until, account.resource.describe)))
        if route == "delete":
            if message.standing(now)[0] not in FINISHED:
                raise RequestRefused(20009)
            account.delete(message)
            return web.Response(status=204)
        if route == "update":
            self._update(form, message)
        return self._written(200, message, now)

    def _update(self, form: MultiMapping[str], message: Message) -> None:
        if "Status" in form:
            if form["Status"] != "canceled":
                raise RequestRefused(20001, "Status")
            self._account.cancel(message)
        if "Body" in form:
            if form["Body"]:
                raise RequestRefused(20001, "Body can only be emptied")
            self._account.redact(message)

    def _written(self, status: int, message: Message, now: float) -> web.Response:
        return json_response(status, orjson.dumps(self._account.resource.describe(message, now)))
