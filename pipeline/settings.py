"""Settings: one TOML file, environment variables over it, every limit finite.

A key KEY of section SECTION can be overridden by the environment variable POSTORDER_SECTION_KEY. Secrets
(keys marked so below) are never read from the TOML file itself: they come from the environment or from a
file named by `KEY_file`. A shard's password comes from POSTORDER_SHARD_NAME_PASSWORD or `password_file`.
"""

import os
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_type_hints
from urllib.parse import parse_qsl, urlsplit

import msgspec
from msgspec import Meta

from pipeline.errors import SettingsError

ENVIRONMENT_PREFIX = "POSTORDER_"

Seconds = Annotated[float, Meta(gt=0, le=86_400 * 30)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


def _about(description: str) -> Meta:
    return Meta(description=description)


class AmqpSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker."""

    url: Annotated[str, _about("amqp(s)://user@host:port/vhost, without the password")] = (
        "amqp://guest@127.0.0.1:5672/"
    )
    password: Annotated[str, _about("a secret")] = ""
    reader: Annotated[
        Literal["lean", "aio-pika"],
        _about("what reads deliveries: our own protocol, or the library at twenty times the CPU"),
    ] = "lean"
    prefetch: Annotated[Count, _about("deliveries a consumer holds unacknowledged at most")] = 4000
    heartbeat_s: Annotated[
        Annotated[int, Meta(ge=1, le=600)], _about("a silent peer is noticed after about three times this")
    ] = 5
    connect_timeout_s: Annotated[Seconds, _about("for connecting and for each request")] = 5.0
    publish_timeout_s: Annotated[Seconds, _about("without a confirm in this time, a publish is unknown")] = (
        5.0
    )
    publish_give_up_s: Annotated[Seconds, _about("an unconfirmed publish is repeated for this long")] = 60.0
    publish_window: Annotated[Count, _about("publishes awaiting their confirm at most")] = 500


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PostgreSQL, the same for every shard."""

    connections_max: Annotated[Count, _about("connections of one process to one server at most")] = 8
    connect_timeout_s: Annotated[Seconds, _about("for opening a connection")] = 3.0
    acquire_timeout_s: Annotated[Seconds, _about("for getting a connection from the pool")] = 5.0
    command_timeout_s: Annotated[Seconds, _about("for a statement, the commit included")] = 5.0
    idle_connection_max_s: Annotated[Seconds, _about("an idle connection is closed after this")] = 60.0
    application_name: Annotated[str, _about("shown in pg_stat_activity")] = "postorder"


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard: a primary and its replica."""

    name: Annotated[
        str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,30}\Z"), _about("stands in the ring: never rename")
    ]
    primary: Annotated[
        str,
        _about(
            "postgresql://user@host:port/database, without the password; host:port,host:port where either "
            "may be the primary"
        ),
    ]
    replica: Annotated[str, _about("the same for the replica; empty: none")] = ""
    password: Annotated[str, _about("a secret")] = ""
    weight: Annotated[Annotated[int, Meta(ge=1, le=100)], _about("share of the slots, relative")] = 1


class IntakeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the broker into the shards."""

    batch_max: Annotated[Count, _about("events in one transaction at most")] = 500
    batch_linger_ms: Annotated[
        Annotated[float, Meta(ge=0, le=10_000)], _about("how long a small batch waits for company")
    ] = 5.0
    batches_in_flight: Annotated[Count, _about("transactions at once on one shard")] = 2
    buffer_events_max: Annotated[
        Count, _about("events held in memory; above it nothing is read, until half of it is settled")
    ] = 20_000
    park_after_s: Annotated[
        Seconds, _about("events that a shard does not take in this time go back to the broker for a while")
    ] = 2.0
    attempts_max: Annotated[
        Annotated[int, Meta(ge=1, le=100)],
        _about("an event that fails alone, on a shard that works, goes to quarantine after this many"),
    ] = 8
    message_bytes_max: Annotated[Count, _about("a larger delivery goes to quarantine")] = 1_000_000
    message_events_max: Annotated[Count, _about("a batch with more events goes to quarantine")] = 1000
    document_bytes_max: Annotated[Count, _about("an inline invoice document, decoded, at most")] = 524_288
    document_hosts: Annotated[
        tuple[str, ...], _about("host or host:port that invoice URLs may name; others go to quarantine")
    ] = ()


class NotificationSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """From the outbox to the providers."""

    grace_window_s: Annotated[
        Annotated[float, Meta(ge=0, le=86_400)], _about("how long an order mail waits for its invoice")
    ] = 5.0
    contact_wait_s: Annotated[
        Seconds, _about("how long a message waits for a customer who is not known yet")
    ] = 300.0
    message_lifetime_s: Annotated[Seconds, _about("an unsent message expires after this")] = 86_400.0
    lease_s: Annotated[Seconds, _about("a claim not settled in this time becomes unknown")] = 60.0
    claim_max: Annotated[Count, _about("messages claimed from one shard at once")] = 100
    poll_ms: Annotated[Annotated[float, Meta(ge=1, le=60_000)], _about("between looks at an idle outbox")] = (
        50.0
    )
    sweep_interval_s: Annotated[Seconds, _about("between looks for lost claims and left-behind invoices")] = (
        1.0
    )
    attempts_max: Annotated[
        Annotated[int, Meta(ge=1, le=100)], _about("tries before a message has failed")
    ] = 8
    retry_base_s: Annotated[Seconds, _about("bound of the first wait before another try")] = 1.0
    retry_ceiling_s: Annotated[Seconds, _about("bound of every wait before another try")] = 300.0
    public_name: Annotated[str, Meta(min_length=1, max_length=60), _about("who the messages are from")] = (
        "Postorder Shop"
    )


class ReadSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reads of orders from primary or replica."""

    mode: Annotated[
        Literal["hedged", "race", "primary", "replica"],
        _about("whom to ask: one and, if it takes long, the other; both at once; one of them alone"),
    ] = "hedged"
    timeout_s: Annotated[Seconds, _about("for an answer")] = 2.0
    catch_up_ms: Annotated[
        Annotated[float, Meta(ge=0, le=60_000)],
        _about("how long a replica that is behind may take to catch up, before the primary is asked"),
    ] = 20.0
    hedge_share: Annotated[
        Annotated[float, Meta(ge=0, le=1)], _about("second requests at most, as a share of all reads")
    ] = 0.05
    hedge_delay_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        _about("when the second server is asked, until enough is measured to know the 95th percentile"),
    ] = 10.0
    hedge_delay_min_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)], _about("never earlier than this")
    ] = 1.0
    patience_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        _about("a server that has not answered by then is taken to be away, and the other is asked"),
    ] = 300.0
    slow_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        _about("no second requests while the median answer of both servers takes longer"),
    ] = 100.0
    loser_limit_s: Annotated[
        Seconds, _about("an answer that nobody waits for any more is cut off after this")
    ] = 1.0
    losers_max: Annotated[Count, _about("such answers at most, for each server")] = 4
    survey_s: Annotated[
        Seconds, _about("between looks at who is primary and whether the replica is synchronous")
    ] = 2.0
    asynchronous_shards: Annotated[
        tuple[str, ...],
        _about(
            "shards whose commits may be acknowledged without their replica: it cannot prove to be up to date"
        ),
    ] = ()


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long rows are kept that only serve to tell duplicates and to send messages."""

    keep_days: Annotated[
        Annotated[int, Meta(ge=0, le=3650)],
        _about("older inbox rows and messages that are settled are deleted; 0: never"),
    ] = 30
    dedupe_window_days: Annotated[
        Annotated[int, Meta(ge=1, le=3650)],
        _about("for how long upstream may repeat an event; `keep_days` must not be less"),
    ] = 7
    interval_s: Annotated[Seconds, _about("rest between two walks through a table")] = 3600.0
    step_pages: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)],
        _about("pages of a table, 8 kB each, that one transaction looks at"),
    ] = 64
    pause_ms: Annotated[Annotated[float, Meta(ge=0, le=60_000)], _about("between two such transactions")] = (
        50.0
    )


class SmsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """SMS by Twilio's Messages API."""

    base_url: Annotated[str, _about("the API's scheme and host")] = "https://api.twilio.com"
    account_sid: Annotated[str, _about("AC…")] = ""
    auth_token: Annotated[str, _about("a secret")] = ""
    from_number: Annotated[str, Meta(pattern=r"\A(\+[1-9][0-9]{6,14})?\Z"), _about("sender in E.164")] = ""
    concurrency: Annotated[Count, _about("calls at once")] = 32
    timeout_s: Annotated[Seconds, _about("without an answer in this time, a message is unknown")] = 10.0


class EmailSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """E-mail by SMTP."""

    host: Annotated[str, _about("the relay")] = "127.0.0.1"
    port: Annotated[Port, _about("its port")] = 25
    tls: Annotated[
        Literal["starttls", "implicit", "none"], _about("`none` only where host is a loopback address")
    ] = "starttls"
    username: Annotated[str, _about("for AUTH; empty: no AUTH")] = ""
    password: Annotated[str, _about("a secret")] = ""
    from_address: Annotated[
        str, Meta(pattern=r"\A[!-;=?A-~]+@[A-Za-z0-9.-]+\Z", max_length=254), _about("sender of every mail")
    ] = "orders@shop.example"
    concurrency: Annotated[Count, _about("connections to the relay at once")] = 16
    timeout_s: Annotated[Seconds, _about("for each SMTP command")] = 10.0
    mails_per_connection: Annotated[Count, _about("a connection is renewed after this many")] = 500


class DocumentSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Invoice documents given by URL."""

    timeout_s: Annotated[Seconds, _about("for fetching one")] = 10.0
    allow_http: Annotated[bool, _about("also http:// (for a host on loopback)")] = False


class OpsSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Watching and stopping."""

    metrics_host: Annotated[str, _about("address of /metrics")] = "127.0.0.1"
    metrics_port: Annotated[Port, _about("port of /metrics; 0: none")] = 0
    log_level: Annotated[Literal["debug", "info", "warning", "error"], _about("least severe to log")] = "info"
    log_format: Annotated[Literal["auto", "json", "console"], _about("auto: console on a terminal")] = "auto"
    drain_timeout_s: Annotated[Seconds, _about("SIGTERM to exit at most")] = 25.0


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything, one section per struct."""

    shards: tuple[ShardSettings, ...]
    amqp: AmqpSettings = AmqpSettings()
    storage: StorageSettings = StorageSettings()
    intake: IntakeSettings = IntakeSettings()
    notifications: NotificationSettings = NotificationSettings()
    reads: ReadSettings = ReadSettings()
    retention: RetentionSettings = RetentionSettings()
    sms: SmsSettings = SmsSettings()
    email: EmailSettings = EmailSettings()
    documents: DocumentSettings = DocumentSettings()
    ops: OpsSettings = OpsSettings()


SECRETS = {"password", "auth_token"}
_LISTS = {"document_hosts", "asynchronous_shards"}
SECTIONS: dict[str, type[msgspec.Struct]] = {
    name: hint for name, hint in get_type_hints(Settings).items() if name != "shards"
}


def load_settings(path: Path | None, environment: Mapping[str, str] | None = None) -> Settings:
    """Read settings from a TOML file (None: no file) and the environment (None: this process's).

    Raises SettingsError with one line per problem, each naming its key, and nothing of a secret's value.
    """
    environment = os.environ if environment is None else environment
    reading = _Reading(path, environment)
    document = reading.document()
    shards = tuple(reading.shards(document.pop("shards", [])))
    sections = {
        name: reading.section(name, document.pop(name, {}), struct) for name, struct in SECTIONS.items()
    }
    reading.problems += [f"[{name}]: no such section" for name in document]
    reading.unknown_variables()
    if not reading.problems:
        settings = Settings(shards=shards, **sections)
        reading.problems += list(_contradictions(settings))
    if reading.problems:
        raise SettingsError(reading.problems)
    return settings


class _Reading:
    """Collects every problem, so that a user mends them in one go."""

    def __init__(self, path: Path | None, environment: Mapping[str, str]) -> None:
        self.path = path
        self.environment = environment
        self.problems: list[str] = []

    def document(self) -> dict[str, Any]:
        if self.path is None:
            return {}
        try:
            return tomllib.loads(self.path.read_text(encoding="utf-8"))
        except OSError as error:
            raise SettingsError([f"{self.path}: cannot be read: {error.strerror}"]) from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise SettingsError([f"{self.path}: not valid TOML: {error}"]) from error

    def shards(self, tables: Any) -> list[ShardSettings]:
        if not isinstance(tables, list) or not tables:
            self.problems.append("shards: at least one [[shards]] table is needed")
            return []
        read = []
        for index, table in enumerate(tables):
            name = str(table.get("name", index)) if isinstance(table, dict) else str(index)
            prefix = f"{ENVIRONMENT_PREFIX}SHARD_{name.upper()}_"
            values = self._values(f"shards.{name}", table, ShardSettings, prefix)
            if values is not None:
                read.append(ShardSettings(**values))
        names = [shard.name for shard in read]
        self.problems += [f"shards.{n}.name: used twice" for n in sorted(set(names)) if names.count(n) > 1]
        return read

    def section(self, name: str, table: Any, struct: type[msgspec.Struct]) -> Any:
        values = self._values(name, table, struct, f"{ENVIRONMENT_PREFIX}{name.upper()}_")
        return None if values is None else struct(**values)

    def _values(
        self, where: str, table: Any, struct: type[msgspec.Struct], prefix: str
    ) -> dict[str, Any] | None:
        """Return the checked values that are set, or None after noting what is wrong with them."""
        if not isinstance(table, dict):
            self.problems.append(f"{where}: must be a table")
            return None
        before = len(self.problems)
        hints = get_type_hints(struct, include_extras=True)
        values = {}
        for key, hint in hints.items():
            raw = self._raw(where, key, dict(table), prefix)
            if raw is None:
                continue
            try:
                values[key] = msgspec.convert(raw, hint, strict=not isinstance(raw, str))
            except msgspec.ValidationError as error:
                self.problems.append(f"{where}.{key}: {_plain(error, secret=key in SECRETS)}")
        allowed = {*hints, *(f"{key}_file" for key in hints if key in SECRETS)}
        self.problems += [f"{where}.{key}: no such key" for key in table if key not in allowed]
        required = {f.name for f in msgspec.structs.fields(struct) if f.required}
        self.problems += [f"{where}.{key}: is missing" for key in sorted(required - set(table))]
        return None if len(self.problems) > before else values

    def _raw(self, where: str, key: str, table: dict[str, Any], prefix: str) -> Any:
        if prefix + key.upper() in self.environment:
            text = self.environment[prefix + key.upper()]
            return text.split(",") if key in _LISTS else text
        if key not in SECRETS:
            return table.get(key)
        if key in table:
            self.problems.append(f"{where}.{key}: a secret: set {prefix}{key.upper()} or {where}.{key}_file")
            return None
        return self._secret_from_file(where, key, table.get(f"{key}_file"))

    def _secret_from_file(self, where: str, key: str, name: Any) -> str | None:
        if name is None:
            return None
        try:
            base = self.path.parent if self.path else Path()
            return (base / str(name)).read_text(encoding="utf-8").strip()
        except OSError as error:
            self.problems.append(f"{where}.{key}_file: {name}: cannot be read: {error.strerror}")
            return None

    def unknown_variables(self) -> None:
        """Note misspelt variables: an override that silently does nothing is the worst kind."""
        known = {"CONFIG", *(f"{s}_{key}".upper() for s, t in SECTIONS.items() for key in get_type_hints(t))}
        for name in self.environment:
            rest = name.removeprefix(ENVIRONMENT_PREFIX)
            if rest != name and rest not in known and not rest.startswith(("SHARD_", "STACK_")):
                self.problems.append(f"{name}: no such setting")


def _plain(error: msgspec.ValidationError, *, secret: bool) -> str:
    text = "not valid" if secret else str(error).replace("Expected `", "must be `").split(" - at `$`")[0]
    return re.sub(r"`(str|int|float|bool|array|object|null)`", lambda m: _WORDS[m[1]], text)


_WORDS = {
    "str": "a text",
    "int": "a whole number",
    "float": "a number",
    "bool": "true or false",
    "array": "a list",
    "object": "a table",
    "null": "nothing",
}


def _contradictions(settings: Settings) -> list[str]:
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
    email = settings.email
    if email.tls == "none" and not _is_loopback(email.host):
        problems.append(f"email.tls: `none` is for loopback only, and email.host is {email.host}")
    if settings.notifications.lease_s <= 2 * max(settings.sms.timeout_s, email.timeout_s):
        problems.append("notifications.lease_s: must be more than twice sms.timeout_s and email.timeout_s")
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


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")
