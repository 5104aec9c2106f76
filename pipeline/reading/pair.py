"""Reads of one shard: which of its two servers are asked, and what they must prove before they answer."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

import structlog

from pipeline.errors import PostorderError, StorageUnavailableError
from pipeline.reading.consistency import Consistency, Mode, Token
from pipeline.reading.endpoint import Attempt, Endpoint
from pipeline.reading.hedging import Contest, HedgeBudget, Plan, are_slow, cheapest_first, hedge_delay_s
from pipeline.reading.position import Need, Position, settled, shortfall, shown_by, shows
from pipeline.reading.survey import Survey
from pipeline.reading.views import Served
from pipeline.settings import ReadSettings, Settings, ShardSettings
from pipeline.storage.node import Node
from pipeline.storage.statements import load_statements

log = structlog.get_logger(__name__)

_READS = load_statements("reads.sql")
_LOOK_AGAIN_S = 0.002  # at a replica that is behind


class Query(NamedTuple):
    """A statement of reads.sql by name, and its arguments."""

    name: str
    arguments: tuple[Any, ...] = ()

    @property
    def sql(self) -> str:
        """The statement, with what tells where the server stood."""
        return _READS["answer"].replace("/* middle */", _READS[self.name])


class Reply(NamedTuple):
    """A server's answer: the data as JSON, whether the shard owns it, and how to read on from there."""

    data: str
    owned: bool
    token: Token
    served: Served


class _Row(NamedTuple):
    """What a server answered, checked."""

    data: str
    owned: bool
    in_recovery: bool
    address: str
    token: Token


class PairReader:
    """One shard. Its pools are its own: reads never take the connections of writes."""

    def __init__(self, shard: ShardSettings, settings: Settings) -> None:
        self.name = shard.name
        self._settings: ReadSettings = settings.reads
        nodes = [Node(f"{shard.name} primary", shard.primary, shard.password, settings.storage)]
        if shard.replica:
            nodes.append(Node(f"{shard.name} replica", shard.replica, shard.password, settings.storage))
        self.endpoints = [Endpoint(node, settings.reads) for node in nodes]
        for endpoint, is_replica in zip(self.endpoints, (False, True), strict=False):
            endpoint.in_recovery = is_replica
        self.survey = Survey(shard.name, self.endpoints, settings.reads.survey_s)
        self.reads = 0
        self._budget = HedgeBudget(settings.reads.hedge_share)
        self._declared_synchronous = shard.name not in settings.reads.asynchronous_shards

    def __repr__(self) -> str:
        return f"PairReader({self.name}: {self.reads} reads, {self.asked} asked)"

    @property
    def asked(self) -> int:
        """How many times a server was asked for a read, hedges and repeats included."""
        return sum(endpoint.asked for endpoint in self.endpoints)

    async def read(
        self, query: Query, *, mode: Mode, consistency: Consistency, token: Token | None = None
    ) -> Reply:
        """Return an answer. Raises StorageUnavailableError or StorageTimeoutError, naming the servers."""
        began = time.monotonic()
        self.reads += 1
        self._budget.earn()
        await self.survey.known()
        need = await self._need(mode, consistency, token)
        contest, asked = self._contest(query, mode, need), 0
        try:
            winner = await contest.run(self._settings.timeout_s)
        except PostorderError as error:
            if not error.retryable or not self._may_ask_replica_alone(mode, need, contest):
                raise
            asked = contest.asked
            contest = self._contest(query, Mode.REPLICA, self._alone(need), primary_too=False)
            winner = await contest.run(self._settings.timeout_s)
        return self._reply(winner, began, asked + contest.asked)

    async def token(self) -> Token:
        """Return a token for all that was committed so far, from the primary."""
        self.reads += 1
        await self.survey.known()
        return await self._primary_token()

    async def _primary_token(self) -> Token:
        contest = Contest([self.survey.primary], self._ask_position, budget=self._budget)
        position = (await contest.run(self._settings.timeout_s)).answer.result()
        self.survey.note(position.timeline)
        return Token(self.name, position.timeline, position.lsn)

    async def close(self) -> None:
        """Let what is under way end within its limit; close the pools."""
        await self.survey.close()
        await asyncio.gather(*(endpoint.close() for endpoint in self.endpoints))

    # --- what is asked for ----------------------------------------------------------------------------

    async def _need(self, mode: Mode, consistency: Consistency, token: Token | None) -> Need | None:
        """Return what the answering server must have; None: anything will do."""
        if consistency is Consistency.ANY:
            return None
        is_session = consistency is Consistency.SESSION and token is not None
        if not is_session and mode is Mode.REPLICA and not self._proves_alone:
            # The commits of this shard do not wait for the replica: only the primary knows what it must have.
            current = await self._primary_token()
            return Need(latest=False, lsn=current.lsn, timeline=current.timeline, seen=_seen(token))
        return Need(
            latest=not is_session,
            lsn=token.lsn if token else 0,
            timeline=max(self.survey.timeline, token.timeline if token else 0),
            seen=_seen(token),
            alone=self._proves_alone and not self.survey.primary_answers,
        )

    @property
    def _proves_alone(self) -> bool:
        """Whether the replica has all that is acknowledged, so that it can tell by itself if it shows it."""
        return self._declared_synchronous and self.survey.synchronous is not False

    def _may_ask_replica_alone(self, mode: Mode, need: Need | None, contest: Contest) -> bool:
        """Return whether the replica may answer after all, when the primary has turned out to be away."""
        if mode is Mode.PRIMARY or need is None or need.alone or self.survey.replica is None:
            return False
        return self._proves_alone and bool(contest.errors)

    def _alone(self, need: Need | None) -> Need:
        assert need is not None
        self.survey.primary_answers = False
        return Need(latest=need.latest, lsn=need.lsn, timeline=need.timeline, seen=need.seen, alone=True)

    # --- who is asked -----------------------------------------------------------------------------------

    def _contest(self, query: Query, mode: Mode, need: Need | None, *, primary_too: bool = True) -> Contest:
        async def ask(endpoint: Endpoint, connection: Any) -> _Row:
            return await self._ask(endpoint, connection, query, need)

        primary, replica = self.survey.primary, self.survey.replica
        useless = need is not None and need.latest and not self._proves_alone
        if replica is None or mode is Mode.PRIMARY or (useless and mode is not Mode.REPLICA):
            return Contest([primary], ask, budget=self._budget)
        if mode is Mode.RACE:
            return Contest([replica, primary], ask, budget=self._budget, plan=Plan(at_once=True))
        if not primary_too:
            return Contest([replica], ask, budget=self._budget)
        candidates = [replica, primary]
        if mode is Mode.HEDGED:
            candidates = cheapest_first(replica, primary, time.monotonic())
        plan = self._plan(candidates, is_hedged=mode is Mode.HEDGED)
        return Contest(candidates, ask, budget=self._budget, plan=plan)

    def _plan(self, candidates: list[Endpoint], *, is_hedged: bool) -> Plan:
        settings = self._settings
        if are_slow(candidates, settings.slow_ms / 1e3):
            return Plan()
        delay_s = hedge_delay_s(
            candidates,
            initial_s=settings.hedge_delay_ms / 1e3,
            least_s=settings.hedge_delay_min_ms / 1e3,
        )
        return Plan(delay_s=delay_s if is_hedged else None, patience_s=settings.patience_ms / 1e3)

    async def _ask(self, endpoint: Endpoint, connection: Any, query: Query, need: Need | None) -> _Row:
        # Without its primary a replica takes a moment to find that no more comes, and nobody else can answer.
        patience_s = self._settings.timeout_s / 2 if need and need.alone else self._settings.catch_up_ms / 1e3
        give_up_at = time.monotonic() + patience_s
        while True:
            why = ""
            if need is not None and endpoint.in_recovery:
                position = await self._ask_position(endpoint, connection)
                if position.in_recovery:
                    need_now = settled(position, need)
                    why = shortfall(position, need_now)
                    if not need.alone:  # else nothing more comes in, and it may yet turn out to have all
                        need = need_now
            asked_first = bool(endpoint.in_recovery)
            if not why:
                row = await connection.fetchrow(query.sql, *query.arguments)
                endpoint.in_recovery = row["in_recovery"]
                if need is not None and row["in_recovery"] and not asked_first:
                    continue  # the settings call it the primary, and it is not
                why = self._objection(row, need)
                if not why:
                    return self._row(row, need)
            if time.monotonic() >= give_up_at:
                raise StorageUnavailableError(f"{endpoint.node.name} at {endpoint.node.address}: {why}")
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _ask_position(self, endpoint: Endpoint, connection: Any) -> Position:
        position = Position.of(await connection.fetchrow(_READS["position"]))
        endpoint.in_recovery = position.in_recovery
        return position

    # --- what comes back --------------------------------------------------------------------------------

    def _objection(self, row: Mapping[str, Any], need: Need | None) -> str:
        """Return why a primary's answer does not count; empty when it does."""
        if need is None or row["in_recovery"]:
            return ""
        latest = max(need.timeline, self.survey.timeline)
        if row["timeline"] < latest:
            return f"an old primary, on timeline {row['timeline']}: {latest} was seen"
        if not shows(row["snapshot"], need.seen):
            return "it does not show yet what the replica showed"
        return ""

    def _row(self, row: Mapping[str, Any], need: Need | None) -> _Row:
        in_recovery = row["in_recovery"]
        timeline = row["timeline"] or max(self.survey.timeline, need.timeline if need else 0)
        self.survey.note(row["timeline"])
        seen = shown_by(row["snapshot"], row["seen"]) if in_recovery else ()
        token = Token(self.name, timeline, row["lsn"], seen)
        return _Row(row["data"], row["owned"], in_recovery, row["address"], token)

    def _reply(self, winner: Attempt, began: float, asked: int) -> Reply:
        row: _Row = winner.answer.result()
        served = Served(
            shard=self.name,
            role="replica" if row.in_recovery else "primary",
            address=row.address,
            asked=asked,
            ms=round((time.monotonic() - began) * 1e3, 3),
        )
        return Reply(row.data, row.owned, row.token, served)


def _seen(token: Token | None) -> tuple[int, ...]:
    return token.seen if token else ()
