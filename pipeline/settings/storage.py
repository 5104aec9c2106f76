"""Settings of the shards: connections, reads and retention."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about


class StorageSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """PostgreSQL, the same for every shard."""

    connections_max: Annotated[Count, about("connections of one process to one server at most")] = 8
    connect_timeout_s: Annotated[Seconds, about("for opening a connection")] = 3.0
    acquire_timeout_s: Annotated[Seconds, about("for getting a connection from the pool")] = 5.0
    command_timeout_s: Annotated[Seconds, about("for a statement, the commit included")] = 5.0
    idle_connection_max_s: Annotated[Seconds, about("an idle connection is closed after this")] = 60.0
    application_name: Annotated[str, about("shown in pg_stat_activity")] = "postorder"


class ShardSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One shard: a primary and its replica."""

    name: Annotated[str, Meta(pattern=r"\A[a-z][a-z0-9_]{0,30}\Z"), about("stands in the ring: never rename")]
    primary: Annotated[
        str,
        about(
            "postgresql://user@host:port/database, without the password; host:port,host:port where either "
            "may be the primary"
        ),
    ]
    replica: Annotated[str, about("the same for the replica; empty: none")] = ""
    password: Annotated[str, about("a secret")] = ""
    weight: Annotated[Annotated[int, Meta(ge=1, le=100)], about("share of the slots, relative")] = 1


class ReadSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Reads of orders from primary or replica."""

    mode: Annotated[
        Literal["hedged", "race", "primary", "replica"],
        about("whom to ask: one and, if it takes long, the other; both at once; one of them alone"),
    ] = "hedged"
    timeout_s: Annotated[Seconds, about("for an answer")] = 2.0
    catch_up_ms: Annotated[
        Annotated[float, Meta(ge=0, le=60_000)],
        about("how long a replica that is behind may take to catch up, before the primary is asked"),
    ] = 20.0
    hedge_share: Annotated[
        Annotated[float, Meta(ge=0, le=1)], about("second requests at most, as a share of all reads")
    ] = 0.05
    hedge_delay_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        about("when the second server is asked, until enough is measured to know the 95th percentile"),
    ] = 10.0
    hedge_delay_min_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)], about("never earlier than this")
    ] = 1.0
    patience_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        about("a server that has not answered by then is taken to be away, and the other is asked"),
    ] = 300.0
    slow_ms: Annotated[
        Annotated[float, Meta(gt=0, le=60_000)],
        about("no second requests while the median answer of both servers takes longer"),
    ] = 100.0
    loser_limit_s: Annotated[
        Seconds, about("an answer that nobody waits for any more is cut off after this")
    ] = 1.0
    losers_max: Annotated[Count, about("such answers at most, for each server")] = 4
    survey_s: Annotated[
        Seconds, about("between looks at who is primary and whether the replica is synchronous")
    ] = 2.0
    asynchronous_shards: Annotated[
        tuple[str, ...],
        about(
            "shards whose commits may be acknowledged without their replica: it cannot prove to be up to date"
        ),
    ] = ()


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long rows are kept that only serve to tell duplicates and to send messages."""

    keep_days: Annotated[
        Annotated[int, Meta(ge=0, le=3650)],
        about("older inbox rows and messages that are settled are deleted; 0: never"),
    ] = 30
    dedupe_window_days: Annotated[
        Annotated[int, Meta(ge=1, le=3650)],
        about("for how long upstream may repeat an event; `keep_days` must not be less"),
    ] = 7
    interval_s: Annotated[Seconds, about("rest between two walks through a table")] = 3600.0
    step_pages: Annotated[
        Annotated[int, Meta(ge=1, le=10_000)],
        about("pages of a table, 8 kB each, that one transaction looks at"),
    ] = 64
    pause_ms: Annotated[Annotated[float, Meta(ge=0, le=60_000)], about("between two such transactions")] = (
        50.0
    )
