"""Cases of the corpus of requests to the public listener, turned into bytes."""

import base64
import hashlib
import hmac
import json
import re
import tomllib
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from public_site import (
    BASE_URL,
    BOUNCE_SECRET,
    EFFECT,
    OTHER_TOKEN,
    SECRET_BEFORE,
    SLOT,
    TOKEN,
    Site,
    inbound_fields,
    now_s,
    status_fields,
)

from pipeline.notifications.callbacks.seals import Seals
from stack.twilio.signature import sign

FORM = "application/x-www-form-urlencoded; charset=UTF-8"
BOUNCE = b"From: MAILER-DAEMON@relay.example\r\nSubject: failure\r\n\r\nno such user\r\n"

Headers = list[tuple[str, str]]


def cases() -> list[dict[str, Any]]:
    """Return the corpus."""
    path = Path(__file__).parent / "data/corpus/webhooks.toml"
    return tomllib.loads(path.read_text(encoding="utf-8"))["case"]


def request_of(case: dict[str, Any], site: Site) -> bytes:
    """Return a case as it goes over the wire."""
    if "raw" in case:
        return case["raw"].encode("latin-1")
    target, headers, body = _parts(case, site)
    method = case.get("method", "POST")
    for name, value in case.get("headers", []):
        times = re.fullmatch(r"\{(\d+) times\}", value)
        headers += [(name, "x")] * int(times[1]) if times else [(name, _expanded(value))]
    if "host" not in {name.lower() for name, _ in headers}:
        headers.insert(0, ("Host", "hooks.shop.example"))
    if method == "POST":
        headers.append(("Content-Length", str(len(body))))
    if "connection" not in {name.lower() for name, _ in headers}:
        headers.append(("Connection", "close"))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers)]
    return (
        "\r\n".join(lines).encode("latin-1")
        + b"\r\n\r\n"
        + (body[: case.get("sent_bytes")] if method == "POST" else b"")
    )


def _parts(case: dict[str, Any], site: Site) -> tuple[str, Headers, bytes]:
    if case.get("to") == "bounce":
        return _bounce(case)
    if case.get("to") == "unsubscribe":
        body = _body(case, b"List-Unsubscribe=One-Click")
        return f"/unsubscribe/{site.token}", _content_type(case, FORM), body
    return _twilio(case, site)


def _twilio(case: dict[str, Any], site: Site) -> tuple[str, Headers, bytes]:
    to = case.get("to", "status")
    path = {"status": "/twilio/status/{seal}", "inbound": "/twilio/inbound"}.get(to, to)
    path = _expanded(_named(path, site))
    fields = (inbound_fields if to == "inbound" else status_fields)(**case.get("fields", {}))
    if case.get("json"):
        return _json(case, path, fields)
    target = f"{path}?{case['query']}" if "query" in case else path
    signed_query = case.get("signed_query", case.get("query"))
    signed = f"{BASE_URL}{path}?{signed_query}" if signed_query else BASE_URL + path
    signed = _named(case.get("signed_url", signed), site)
    body = urlencode({**fields, **case.get("unsigned", {})}, doseq=True)
    if case.get("rewrite") == "plus as %20":
        body = body.replace("+", "%20")
    headers = _content_type(case, FORM) + _signature_headers(case.get("signature", "right"), signed, fields)
    return target, headers, _body(case, body.encode())


def _json(case: dict[str, Any], path: str, fields: dict[str, Any]) -> tuple[str, Headers, bytes]:
    body = case.get("json_body", json.dumps(fields)).encode()
    digest = hashlib.sha256(body).hexdigest()
    query = {
        "none": "",
        "wrong": f"bodySHA256={hashlib.sha256(b'other').hexdigest()}",
        "twice": f"bodySHA256={digest}&bodySHA256={digest}",
        "capitals": f"bodySHA256={digest.upper()}",
    }.get(case.get("body_hash", ""), f"bodySHA256={digest}")
    target = f"{path}?{query}" if query else path
    return (
        target,
        [("Content-Type", "application/json"), *_signature_headers("right", BASE_URL + target, {})],
        body,
    )


def _signature_headers(how: str, url: str, fields: dict[str, Any]) -> Headers:
    right = sign(TOKEN, url, fields)
    raw = base64.b64decode(right)
    if how in {"sha256", "md5"}:
        return [("X-Twilio-Signature", _with(how, url, fields))]
    other = {
        "right": [right],
        "none": [],
        "empty": [""],
        "wrong key": [sign("not the token", url, fields)],
        "empty key": [sign("", url, fields)],
        "other token": [sign(OTHER_TOKEN, url, fields)],
        "truncated": [right[:-4]],
        "extended": [right + "AAAA"],
        "capitals": [right.upper()],
        "base64url": [base64.urlsafe_b64encode(b"\xff" * 20).decode()],
        "hexadecimal": [raw.hex()],
        "without padding": [right.rstrip("=")],
        "twice": [right, right],
        "wrong and right": [sign("not the token", url, fields), right],
        "joined": [f"{right}, {right}"],
    }
    return [("X-Twilio-Signature", value) for value in other[how]]


def _with(algorithm: str, url: str, fields: dict[str, str]) -> str:
    text = url + "".join(name + fields[name] for name in sorted(fields))
    return base64.b64encode(hmac.digest(TOKEN.encode(), text.encode(), algorithm)).decode()


def bounce_headers(
    body: bytes, *, age_s: int | str = 0, how: str = "right", webhook_id: str = "msg_1"
) -> Headers:
    """Return the headers of a bounce, signed at some age."""
    timestamp = "" if age_s == "none" else str(now_s() - int(age_s))
    key = base64.b64decode(BOUNCE_SECRET.removeprefix("whsec_"))
    if how == "wrong key":
        key = b"another key"
    signed = f"{webhook_id}.{timestamp}.".encode() + body
    mac = base64.b64encode(hmac.digest(key, signed, "sha256")).decode()
    signature = {"several": f"v1a,xx v1,AAAA v1,{mac}", "v9": f"v9,{mac}"}.get(how, f"v1,{mac}")
    headers = [("webhook-id", webhook_id), ("webhook-signature", signature)]
    return headers + ([("webhook-timestamp", timestamp)] if timestamp else [])


def _bounce(case: dict[str, Any]) -> tuple[str, Headers, bytes]:
    body = _body(case, BOUNCE)
    headers = bounce_headers(
        body,
        age_s=case.get("age_s", 0),
        how=case.get("signature", "right"),
        webhook_id=f"msg_{case['what'].replace(' ', '_')}",
    )
    return "/mail/bounces", [*_content_type(case, "message/rfc822"), *headers], body


def _content_type(case: dict[str, Any], default: str) -> Headers:
    value = case.get("content_type", default)
    return [("Content-Type", value)] if value else []


def _body(case: dict[str, Any], default: bytes) -> bytes:
    return case["body"].encode() * case.get("body_times", 1) if "body" in case else default


def _named(text: str, site: Site) -> str:
    other = Seals([site.settings.public.secret]).seal(SLOT, UUID(int=1), 1)
    before = Seals([SECRET_BEFORE]).seal(SLOT, EFFECT, 1)
    text = text.replace("{seal_before}", before).replace("{other_seal}", other)
    return text.replace("{seal}", site.seal).replace("{token}", site.token)


def _expanded(text: str) -> str:
    return re.sub(r"\{(\d+)\}", lambda match: "x" * int(match[1]), text)
