"""The stack's endpoints, as one JSON object."""

import msgspec

from stack.components import component_names
from stack.ha import member_names, views_of
from stack.ha_servers import postmasters
from stack.patroni_api import PatroniApi
from stack.ports import HOST
from stack.postgres_settings import DATABASE, USER
from stack.rabbitmq import USER as AMQP_USER
from stack.state import StackState


class MemberEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """A member of a pair under Patroni, which chooses its role. `pid`: PostgreSQL's; None: it does not run.

    `role`: leader, sync_standby, replica, or unknown while no Patroni of the pair answers.
    """

    name: str
    dsn: str
    api_url: str
    role: str = "unknown"
    state: str = "unknown"
    timeline: int | None = None
    pid: int | None = None


class ShardEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """A pair's DSNs, passwords included. Under Patroni each names both members and says which it wants."""

    name: str
    primary_dsn: str
    replica_dsn: str
    members: list[MemberEndpoints] = []


class SmtpEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The SMTP sink. `api_url`: read what arrived, set how it behaves."""

    host: str
    port: int
    api_url: str


class TwilioEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """The Twilio emulator. `api_url`: read what arrived, set how it behaves."""

    base_url: str
    account_sid: str
    auth_token: str
    api_url: str


class StackStatus(msgspec.Struct, frozen=True, kw_only=True):
    """Where everything is. `running`: whether all of it runs, and each shard has a primary."""

    running: bool
    amqp_url: str
    management_url: str | None
    shards: list[ShardEndpoints]
    smtp: SmtpEndpoints
    twilio: TwilioEndpoints
    pids: dict[str, int]
    components: dict[str, str]
    data_dir: str


def status_of(state: StackState, data_dir: str) -> StackStatus:
    """Return the status of a stack as its state tells it, checked against the processes that run."""
    ports, alive = state.ports, state.alive
    components = {name: "up" if name in alive else "down" for name in component_names(state)}
    shards = [(_ha_shard if state.ha else _plain_shard)(state, shard.name) for shard in state.shards]
    has_primaries = all(not shard.members or _leads(shard) for shard in shards)
    return StackStatus(
        running=has_primaries and all(value == "up" for value in components.values()),
        amqp_url=f"amqp://{AMQP_USER}:{state.secrets['amqp']}@{HOST}:{ports['amqp']}/",
        management_url=None,
        shards=shards,
        smtp=SmtpEndpoints(
            host=HOST, port=ports["smtp"], api_url=f"http://{HOST}:{ports['smtp_api']}/_control"
        ),
        twilio=TwilioEndpoints(
            base_url=f"http://{HOST}:{ports['twilio']}",
            account_sid=state.account_sid,
            auth_token=state.secrets["twilio"],
            api_url=f"http://{HOST}:{ports['twilio']}/_control",
        ),
        pids={name: server.pid for name, server in alive.items()},
        components=components,
        data_dir=data_dir,
    )


def _dsn(state: StackState, *servers: str) -> str:
    hosts = ",".join(f"{HOST}:{state.ports[server]}" for server in servers)
    return f"postgresql://{USER}:{state.secrets[USER]}@{hosts}/{DATABASE}"


def _plain_shard(state: StackState, name: str) -> ShardEndpoints:
    return ShardEndpoints(
        name=name,
        primary_dsn=_dsn(state, f"{name}-primary"),
        replica_dsn=_dsn(state, f"{name}-replica"),
    )


def _ha_shard(state: StackState, name: str) -> ShardEndpoints:
    members = member_names(name)
    both = _dsn(state, *members)
    apis = {
        member: PatroniApi(member, state.ports[f"{member}-api"], state.secrets["patroni"])
        for member in members
    }
    views = {
        view.name: view for view in views_of([apis[member] for member in members if member in state.alive])
    }
    pids = postmasters(state)
    return ShardEndpoints(
        name=name,
        primary_dsn=f"{both}?target_session_attrs=read-write",
        replica_dsn=f"{both}?target_session_attrs=prefer-standby",
        members=[
            MemberEndpoints(
                name=member,
                dsn=_dsn(state, member),
                api_url=f"http://{HOST}:{apis[member].port}",
                role=views[member].role if member in views else "unknown",
                state=views[member].state if member in views else "unknown",
                timeline=views[member].timeline if member in views else None,
                pid=pids[member].pid if member in pids else None,
            )
            for member in members
        ],
    )


def _leads(shard: ShardEndpoints) -> bool:
    return any((member.role, member.state) == ("leader", "running") for member in shard.members)
