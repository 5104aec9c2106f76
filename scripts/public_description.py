"""The OpenAPI description of the public listener: its routes read raw bodies, whose shape no code says."""

from importlib.metadata import version
from typing import Any, Final

FORM, JSON, HTML, XML = "application/x-www-form-urlencoded", "application/json", "text/html", "text/xml"
PROBLEM: Final = "application/problem+json"
Part = dict[str, Any]

ABOUT: Final = """What is reached from outside: Twilio's callbacks and texts from handsets, reports of
bounces, unsubscribing, webhooks of shops and payment services. Each is answered when what it says is durable,
and changes nothing when it comes again. Errors have one shape, RFC 9457, without a word of what was sent. A
path is letters, digits, `_` and `-` between slashes, 256 bytes at most; every other one is 404."""

ALWAYS: Final = {
    "400": "BadRequest",
    "404": "NotFound",
    "405": "MethodNotAllowed",
    "408": "RequestTimeout",
    "431": "HeadTooLarge",
    "503": "Unavailable",
}
WITH_BODY: Final = {**ALWAYS, "413": "TooLarge", "415": "UnsupportedMediaType"}
NOT_GENUINE: Final = {"403": "NotGenuine"}
TAKEN: Final = {"204": {"description": "It is durable, or changes nothing."}}


def description() -> Part:
    """Return the description."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Postorder: public listener",
            "version": version("postorder"),
            "description": ABOUT,
        },
        "servers": [{"url": "https://hooks.shop.example", "description": "`public.base_url`"}],
        "paths": {**_twilio(), **_unsubscribing(), **_mail(), **_vendors()},
        "components": {
            "securitySchemes": _signatures(),
            "schemas": _schemas(),
            "responses": _failures(),
        },
    }


def _twilio() -> Part:
    twiml = {XML: {"schema": {"type": "string"}}}
    later = {"description": "Come again.", "content": {**twiml, PROBLEM: _of("Problem")}}
    return {
        "/twilio/status/{seal}": {
            "post": _operation(
                "Status callback of a message: words only go forward, repeated or late ones change nothing",
                _responses(WITH_BODY, NOT_GENUINE, TAKEN),
                security=[{"twilio": []}],
                parameters=[_segment("seal", "^[A-Za-z0-9_-]{48}$", "Made for one message.")],
                body={FORM: _of("StatusCallback"), JSON: _of("StatusCallback")},
            )
        },
        "/twilio/inbound": {
            "post": _operation(
                "Text from a handset: STOP and START count once each, HELP is answered",
                {
                    **_responses(WITH_BODY, NOT_GENUINE),
                    "200": {"description": "TwiML: an answer, or none.", "content": twiml},
                    "503": later,
                },
                security=[{"twilio": []}],
                body={FORM: _of("InboundText"), JSON: _of("InboundText")},
            )
        },
    }


def _unsubscribing() -> Part:
    page = {HTML: {"schema": {"type": "string"}}}
    language = {"Content-Language": {"required": True, "schema": {"type": "string"}}}
    pages = {
        "200": {"description": "A page.", "headers": language, "content": page},
        "404": {"description": "No such link.", "content": {**page, PROBLEM: _of("Problem")}},
    }
    token = _segment("token", "^[A-Za-z0-9_-]{44}$", "Made for one recipient.")
    return {
        "/unsubscribe/{token}": {
            "get": _operation(
                "Page with a button: changes nothing, for scanners of mails follow every link",
                {**_responses(ALWAYS), **pages},
                parameters=[token],
            ),
            "post": _operation(
                "Take an address off all mails by one click (RFC 8058)",
                {**_responses(WITH_BODY), **pages},
                parameters=[token],
                body={FORM: _of("OneClick"), "multipart/form-data": _of("OneClick")},
            ),
        }
    }


def _mail() -> Part:
    report = {"schema": {"type": "string", "format": "binary"}}
    standard = {"webhook-id": [], "webhook-timestamp": [], "webhook-signature": []}
    return {
        "/mail/bounces": {
            "post": _operation(
                "A bounce, as it is. The same id again changes nothing, and with another body is 409",
                _responses(WITH_BODY, NOT_GENUINE, {"409": "Conflict"}, TAKEN),
                security=[standard],
                body={"message/rfc822": report, "multipart/report": report},
            )
        },
        "/mail/events/sendgrid": {
            "post": _operation(
                "SendGrid's signed events; is there when `public.sendgrid_keys` are set",
                _responses(WITH_BODY, NOT_GENUINE, TAKEN),
                security=[{"sendgrid-timestamp": [], "sendgrid-signature": []}],
                body={JSON: {"schema": {"type": "array"}}},
            )
        },
        "/mail/events/ses": {
            "post": _operation(
                "Amazon SES by way of SNS, signed in the body; is there when `public.sns_topics` are set",
                _responses(WITH_BODY, NOT_GENUINE, TAKEN),
                body={"text/plain": {"schema": {"type": "object"}}, JSON: {"schema": {"type": "object"}}},
            )
        },
    }


def _vendors() -> Part:
    vendor = {"type": "string", "enum": ["shopify", "square", "stripe"]}
    return {
        "/webhooks/{vendor}": {
            "post": _operation(
                "Webhook of a shop or payment service: 204 when its events, if any, are in a queue for good",
                _responses(WITH_BODY, {"401": "NotSigned", "422": "NotTaken", "429": "TooMany"}, TAKEN),
                security=[{"shopify": []}, {"stripe": []}, {"square": []}],
                parameters=[_parameter("vendor", vendor, "One whose secret is set; any other is 404.")],
                body={JSON: {"schema": {"type": "object"}}},
            )
        }
    }


def _operation(
    what: str,
    responses: Part,
    *,
    security: list[Part] | None = None,
    parameters: list[Part] | None = None,
    body: Part | None = None,
) -> Part:
    optional = {
        "parameters": parameters,
        "requestBody": body and {"required": True, "content": body},
    }
    present = {name: value for name, value in optional.items() if value}
    return {"description": what, "security": security or [], "responses": responses, **present}


def _responses(*several: Part) -> Part:
    found = {status: response for part in several for status, response in part.items()}
    return {
        status: {"$ref": f"#/components/responses/{one}"} if isinstance(one, str) else one
        for status, one in found.items()
    }


def _segment(name: str, pattern: str, what: str) -> Part:
    return _parameter(name, {"type": "string", "pattern": pattern}, what)


def _parameter(name: str, schema: Part, what: str) -> Part:
    return {"name": name, "in": "path", "required": True, "description": what, "schema": schema}


def _of(schema: str) -> Part:
    return {"schema": {"$ref": f"#/components/schemas/{schema}"}}


def _signatures() -> Part:
    names = {
        "twilio": ("X-Twilio-Signature", "By the account's auth token, over URL and form or `bodySHA256`."),
        "webhook-id": ("webhook-id", "1 to 128 characters."),
        "webhook-timestamp": ("webhook-timestamp", "Seconds since 1970, right to five minutes."),
        "webhook-signature": (
            "webhook-signature",
            "`v1,` and base64 of HMAC-SHA256 over `id.timestamp.body`.",
        ),
        "sendgrid-timestamp": ("X-Twilio-Email-Event-Webhook-Timestamp", "Seconds since 1970."),
        "sendgrid-signature": ("X-Twilio-Email-Event-Webhook-Signature", "ECDSA over timestamp and body."),
        "shopify": ("X-Shopify-Hmac-Sha256", "Base64 of HMAC-SHA256 over the body."),
        "stripe": ("Stripe-Signature", "`t=SECONDS,v1=HEX`, HMAC-SHA256 over `SECONDS.body`; five minutes."),
        "square": ("x-square-hmacsha256-signature", "Base64 of HMAC-SHA256 over URL and body."),
    }
    return {
        name: {"type": "apiKey", "in": "header", "name": header, "description": what}
        for name, (header, what) in names.items()
    }


_FORMS: Final[dict[str, Part]] = {
    "AccountSid": {"pattern": "^AC[0-9a-fA-F]{32}$"},
    "MessageSid": {"pattern": "^(SM|MM)[0-9a-fA-F]{32}$"},
    "MessageStatus": {"examples": ["sent", "delivered", "undelivered"]},
    "ErrorCode": {"examples": ["30003", "21610"]},
    "Body": {"examples": ["STOP", "START", "HELP"]},
    "From": {"examples": ["+14155550123"]},
}


def _schemas() -> Part:
    def counts(*names: str, required: int) -> Part:
        fields = {name: {"type": "string", **_FORMS.get(name, {})} for name in names}
        what = "What counts of Twilio's fields."
        return {
            "type": "object",
            "description": what,
            "required": list(names[:required]),
            "properties": fields,
        }

    text = {"type": "string"}
    fields = {"type": {"const": "about:blank"}, "title": text, "status": {"type": "integer"}}
    return {
        "Problem": {
            "type": "object",
            "additionalProperties": False,
            "required": list(fields),
            "properties": fields,
        },
        "StatusCallback": counts("AccountSid", "MessageSid", "MessageStatus", "ErrorCode", "To", required=3),
        "InboundText": counts("AccountSid", "MessageSid", "From", "Body", "OptOutType", required=2),
        "OneClick": {
            "type": "object",
            "required": ["List-Unsubscribe"],
            "properties": {"List-Unsubscribe": {"const": "One-Click"}},
        },
    }


def _failures() -> Part:
    seconds = {"required": True, "description": "Seconds.", "schema": {"type": "string"}}
    later, allow = {"Retry-After": seconds}, {"Allow": {"required": True, "schema": {"type": "string"}}}
    named: dict[str, tuple[str, Part]] = {
        "BadRequest": ("It cannot be read, or contradicts itself.", {}),
        "NotSigned": ("Not signed by the vendor.", {}),
        "NotGenuine": ("Not signed by who it claims to be from.", {}),
        "NotFound": ("No such path, link or vendor.", {}),
        "MethodNotAllowed": ("Not by this method.", allow),
        "RequestTimeout": ("It took longer to arrive than `public.request_timeout_s`.", {}),
        "Conflict": ("Another body came under this id before.", {}),
        "TooLarge": ("The body is larger than is taken.", {}),
        "UnsupportedMediaType": ("Another media type or character set, or packed.", {}),
        "NotTaken": ("Genuine, and no order or invoice can be made of it.", {}),
        "TooMany": ("More than `webhooks.rate_per_s` of this vendor.", later),
        "HeadTooLarge": ("Line and headers are larger than `public.head_bytes_max`.", {}),
        "Unavailable": ("What is needed does not answer, or too much is under way: come again.", later),
    }
    return {
        name: {
            "description": what,
            "content": {PROBLEM: _of("Problem")},
            **({"headers": extra} if extra else {}),
        }
        for name, (what, extra) in named.items()
    }
