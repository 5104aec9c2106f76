"""What can be wrong between settings that are each fine by themselves."""

from ipaddress import ip_network
from typing import TypeVar
from urllib.parse import SplitResult, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.dsn import parse_dsn
from pipeline.settings.api import ApiSettings
from pipeline.settings.pools import SlotSettings
from pipeline.settings.public import PublicSettings
from pipeline.settings.sections import Settings
from pipeline.settings.sms import SmsSettings
from pipeline.settings.webhooks import WebhookSettings

SECRET_CHARS_MIN = 32
_VENDOR_SECRET_CHARS_MIN = 16  # vendors make them; none is shorter


def contradictions(settings: Settings) -> list[str]:
    """Return what is wrong between keys that are each fine by themselves.

    Not that a secret is missing: only some roles are given it (consumers.role_needs).
    """
    problems = []
    for where, url, schemes in _urls(settings):
        if not url.startswith(tuple(f"{scheme}://" for scheme in schemes)):
            problems.append(f"{where}: must be of the form {schemes[0]}://user@host:port/…")
        elif schemes == _POSTGRES:
            problems += _dsn_problems(where, url)
        else:
            problems += _url_problems(where, url)
    problems += _message_problems(settings)
    reads, storage = settings.reads, settings.storage
    if reads.timeout_s + reads.loser_limit_s >= storage.command_timeout_s:
        # Else the driver's time-out comes first, and opens a connection to ask for the query's end.
        problems.append("reads.timeout_s + reads.loser_limit_s: must be less than storage.command_timeout_s")
    if reads.losers_max >= storage.connections_max:
        problems.append("reads.losers_max: must be less than storage.connections_max")
    retention = settings.retention
    if 0 < retention.keep_days < retention.dedupe_window_days:
        problems.append("retention.keep_days: must be 0, or no less than retention.dedupe_window_days")
    unknown = sorted(set(reads.asynchronous_shards) - {shard.name for shard in settings.shards})
    problems += [f"reads.asynchronous_shards: {name}: no such shard" for name in unknown]
    if settings.rules.quiet_kinds and settings.rules.quiet_from == settings.rules.quiet_until:
        problems.append("rules.quiet_from, rules.quiet_until: are equal, so that nothing would ever be sent")
    problems += _public_problems(settings.public)
    problems += _allocator_problems(settings)
    problems += _webhook_problems(settings.webhooks)
    problems += _api_problems(settings.api)
    return problems + _trace_problems(settings)


def _message_problems(settings: Settings) -> list[str]:
    problems = []
    for where, email in _sections(email=settings.email, email_second=settings.email_second):
        if email.tls == "none" and not _is_loopback(email.host):
            problems.append(f"{where}.tls: `none` is for loopback only, and {where}.host is {email.host}")
        if email.dkim_domain and not email.dkim_selector:
            problems.append(f"{where}.dkim_domain: needs {where}.dkim_selector too")
    try:
        ZoneInfo(settings.notifications.time_zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        problems.append(f"notifications.time_zone: {settings.notifications.time_zone!r}: no such time zone")
    for name, sms in _sections(sms=settings.sms, sms_second=settings.sms_second):
        problems += _sms_problems(name, sms)
    problems += _slot_problems(settings)
    return problems


def _slot_problems(settings: Settings) -> list[str]:
    problems = []
    slots: list[tuple[str, SlotSettings]] = [
        *_sections(sms=settings.sms, sms_second=settings.sms_second),
        *_sections(email=settings.email, email_second=settings.email_second),
    ]
    for where, slot in slots:
        if slot.concurrency_min > slot.concurrency:
            problems.append(f"{where}.concurrency_min: must not be more than {where}.concurrency")
        if settings.notifications.lease_s <= 2 * slot.timeout_s:
            problems.append(f"notifications.lease_s: must be more than twice {where}.timeout_s")
        if settings.effects.ask_after_s <= settings.notifications.lease_s + slot.timeout_s:
            problems.append(
                f"effects.ask_after_s: must be more than notifications.lease_s and {where}.timeout_s together"
            )
    if settings.notifications.lease_s <= 2 * settings.documents.timeout_s:
        # A mail whose invoice is slow to come would be given back each time before it is sent.
        problems.append("notifications.lease_s: must be more than twice documents.timeout_s")
    for name, first, second in (
        ("sms", settings.sms, settings.sms_second),
        ("email", settings.email, settings.email_second),
    ):
        if first.weight == 0 and (second is None or second.weight == 0):
            problems.append(f"{name}.weight: somebody has to be the first choice")
    return problems


_SlotT = TypeVar("_SlotT", bound=SlotSettings)


def _sections(**sections: _SlotT | None) -> list[tuple[str, _SlotT]]:
    return [(name, section) for name, section in sections.items() if section is not None]


def _sms_problems(where: str, sms: SmsSettings) -> list[str]:
    problems = []
    if sms.from_number and sms.messaging_service_sid:
        problems.append(f"{where}.from_number: cannot be set together with {where}.messaging_service_sid")
    if sms.account_sid and not (sms.from_number or sms.messaging_service_sid):
        problems.append(
            f"{where}.from_number: is missing, and so is {where}.messaging_service_sid: one is needed"
        )
    if sms.connect_timeout_s > sms.timeout_s:
        problems.append(f"{where}.connect_timeout_s: must not be more than {where}.timeout_s")
    if not sms.number_types:
        problems.append(f"{where}.number_types: is empty, so that no number could be texted")
    parts = _split(sms.base_url)
    if parts is None:  # said elsewhere
        return problems
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        problems.append(f"{where}.base_url: http is for loopback only: it would show the token on the way")
    if parts.path.strip("/") or parts.query or parts.fragment:
        problems.append(f"{where}.base_url: must be a scheme and a host, with nothing after them")
    return problems


def _url_problems(where: str, url: str) -> list[str]:
    parts = _split(url)
    if parts is None:
        return [f"{where}: must be of the form {url.partition(':')[0]}://user@host:port/…"]
    return [_CREDENTIALS_INSIDE.format(where)] if parts.password else []


def _split(url: str) -> SplitResult | None:
    """Return a URL's parts; None for one that has no host, or is none."""
    try:
        parts = urlsplit(url)
        is_good = bool(parts.hostname) and parts.port != 0
    except ValueError:
        return None
    return parts if is_good else None


def _dsn_problems(where: str, dsn: str) -> list[str]:
    """Return what is wrong with a DSN that may name several hosts, and say which of them it wants."""
    try:
        parts = parse_dsn(dsn)
    except ValueError as error:
        return [f"{where}: {error}"]
    problems = [_CREDENTIALS_INSIDE.format(where)] if parts.password else []
    attributes = parts.parameters.get("target_session_attrs", "any")
    if attributes not in _SESSION_ATTRIBUTES:
        problems.append(
            f"{where}: target_session_attrs {attributes!r} is none of {', '.join(_SESSION_ATTRIBUTES)}"
        )
    return problems


_CREDENTIALS_INSIDE = "{}: holds a password: put it into the environment or a password_file"
_POSTGRES = ("postgresql", "postgres")
_SESSION_ATTRIBUTES = ("any", "read-write", "primary", "standby", "prefer-standby")


def _urls(settings: Settings) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        ("amqp.url", settings.amqp.url, ("amqp", "amqps")),
        *(
            (f"{where}.base_url", sms.base_url, ("https", "http"))
            for where, sms in _sections(sms=settings.sms, sms_second=settings.sms_second)
        ),
        *((f"shards.{s.name}.primary", s.primary, _POSTGRES) for s in settings.shards),
        *((f"shards.{s.name}.replica", s.replica, _POSTGRES) for s in settings.shards if s.replica),
        *(
            (("traces.endpoint", settings.traces.endpoint, ("http", "https")),)
            if settings.traces.endpoint
            else ()
        ),
    ]


def _public_problems(public: PublicSettings) -> list[str]:
    problems = []
    if public.base_url:
        problems += _base_url_problems(public.base_url)
    elif public.port:
        problems.append("public.base_url: is missing, and the listener on public.port needs it")
    for key in ("secret", "secret_previous", "bounce_secret", "bounce_secret_previous"):
        if 0 < len(getattr(public, key)) < SECRET_CHARS_MIN:
            problems.append(f"public.{key}: must have {SECRET_CHARS_MIN} characters or more")
    return problems


def _trace_problems(settings: Settings) -> list[str]:
    traces = settings.traces
    if not traces.endpoint:
        return []
    problems = []
    parts = _split(traces.endpoint)
    if traces.authorization and parts and parts.scheme != "https" and not _is_loopback(parts.hostname or ""):
        problems.append("traces.endpoint: must be https where traces.authorization is sent along")
    return problems


def _webhook_problems(webhooks: WebhookSettings) -> list[str]:
    secrets = {name: getattr(webhooks, name) for name in webhooks.__struct_fields__ if "_secret" in name}
    return [
        f"webhooks.{name}: must have {_VENDOR_SECRET_CHARS_MIN} characters or more"
        for name, secret in secrets.items()
        if 0 < len(secret) < _VENDOR_SECRET_CHARS_MIN
    ]


def _api_problems(api: ApiSettings) -> list[str]:
    problems = [
        f"api.{key}: must have {SECRET_CHARS_MIN} characters or more"
        for key in ("secret", "secret_previous")
        if 0 < len(getattr(api, key)) < SECRET_CHARS_MIN
    ]
    if not (api.behind_tls or _is_loopback(api.host)):
        problems.append(
            "api.host: is not loopback: put a proxy in front that speaks TLS, and set api.behind_tls"
        )
    return problems + [
        f"api.trusted_proxies: {text!r}: must be a network such as 10.0.0.0/8"
        for text in api.trusted_proxies
        if not _is_network(text)
    ]


def _is_network(text: str) -> bool:
    try:
        ip_network(text)
    except ValueError:
        return False
    return True


def _allocator_problems(settings: Settings) -> list[str]:
    allocator = settings.allocator
    pairs = [("prefetch_min", "prefetch_max"), ("batch_min", "batch_max"), ("cpu_low", "cpu_high")]
    if allocator.workers_max:
        pairs.append(("workers_min", "workers_max"))
    return [
        f"allocator.{low}: must not be more than allocator.{high}"
        for low, high in pairs
        if getattr(allocator, low) > getattr(allocator, high)
    ]


def _base_url_problems(base_url: str) -> list[str]:
    parts = _split(base_url)
    is_plain = parts and not (parts.query or parts.fragment or parts.username) and base_url.isascii()
    if parts is None or parts.scheme not in ("https", "http") or not is_plain:
        return ["public.base_url: must be of the form https://host/path"]
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        return ["public.base_url: http is for loopback only: what it carries must not be read on the way"]
    return []


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
