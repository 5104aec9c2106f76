"""What can be wrong between settings that are each fine by themselves."""

from urllib.parse import parse_qsl, urlsplit
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pipeline.settings.public import PublicSettings
from pipeline.settings.sections import Settings

SECRET_CHARS_MIN = 32


def contradictions(settings: Settings) -> list[str]:
    """Return what is wrong between keys that are each fine by themselves."""
    problems = []
    for where, url, schemes in _urls(settings):
        parts = urlsplit(url)
        if parts.scheme not in schemes or not parts.hostname:
            problems.append(f"{where}: must be of the form {schemes[0]}://user@host:port/…")
        elif parts.password:
            problems.append(f"{where}: holds a password: put it into the environment or a password_file")
        elif schemes == _POSTGRES:
            problems += _dsn_problems(where, url)
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
    problems += _public_problems(settings.public)
    return problems


def _message_problems(settings: Settings) -> list[str]:
    problems = []
    email = settings.email
    if email.tls == "none" and not _is_loopback(email.host):
        problems.append(f"email.tls: `none` is for loopback only, and email.host is {email.host}")
    if email.dkim_domain and not (email.dkim_selector and email.dkim_key):
        problems.append("email.dkim_domain: needs email.dkim_selector and email.dkim_key_file too")
    try:
        ZoneInfo(settings.notifications.time_zone)
    except (ValueError, OSError, ZoneInfoNotFoundError):
        problems.append(f"notifications.time_zone: {settings.notifications.time_zone!r}: no such time zone")
    if settings.notifications.lease_s <= 2 * max(settings.sms.timeout_s, email.timeout_s):
        problems.append("notifications.lease_s: must be more than twice sms.timeout_s and email.timeout_s")
    return problems


def _dsn_problems(where: str, dsn: str) -> list[str]:
    """Return what is wrong with a DSN that may name several hosts, and say which of them it wants."""
    problems = []
    parts = urlsplit(dsn)
    for host in parts.netloc.rpartition("@")[2].split(","):
        try:
            single = urlsplit(f"//{host}")
            is_good = bool(single.hostname) and single.port != 0
        except ValueError:
            is_good = False
        if not is_good:
            problems.append(f"{where}: {host!r} is not of the form host:port")
    attributes = dict(parse_qsl(parts.query)).get("target_session_attrs", "any")
    if attributes not in _SESSION_ATTRIBUTES:
        problems.append(
            f"{where}: target_session_attrs {attributes!r} is none of {', '.join(_SESSION_ATTRIBUTES)}"
        )
    return problems


_POSTGRES = ("postgresql", "postgres")
_SESSION_ATTRIBUTES = ("any", "read-write", "primary", "standby", "prefer-standby")


def _urls(settings: Settings) -> list[tuple[str, str, tuple[str, ...]]]:
    return [
        ("amqp.url", settings.amqp.url, ("amqp", "amqps")),
        ("sms.base_url", settings.sms.base_url, ("https", "http")),
        *((f"shards.{s.name}.primary", s.primary, _POSTGRES) for s in settings.shards),
        *((f"shards.{s.name}.replica", s.replica, _POSTGRES) for s in settings.shards if s.replica),
    ]


def _public_problems(public: PublicSettings) -> list[str]:
    problems = []
    if public.base_url:
        problems += _base_url_problems(public.base_url)
        if len(public.secret) < SECRET_CHARS_MIN:
            problems.append(f"public.secret: {SECRET_CHARS_MIN} characters or more are needed for base_url")
    elif public.port:
        problems.append("public.base_url: is missing, and the listener on public.port needs it")
    for key in ("secret_previous", "bounce_secret", "bounce_secret_previous"):
        if 0 < len(getattr(public, key)) < SECRET_CHARS_MIN:
            problems.append(f"public.{key}: must have {SECRET_CHARS_MIN} characters or more")
    return problems


def _base_url_problems(base_url: str) -> list[str]:
    try:
        parts = urlsplit(base_url)
        is_good = parts.scheme in ("https", "http") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return ["public.base_url: must be of the form https://host/path"]
    if not is_good or parts.query or parts.fragment or parts.username or not base_url.isascii():
        return ["public.base_url: must be of the form https://host/path"]
    if parts.scheme == "http" and not _is_loopback(parts.hostname or ""):
        return ["public.base_url: http is for loopback only: what it carries must not be read on the way"]
    return []


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
