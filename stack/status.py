"""The stack's endpoints, as one JSON object."""

import msgspec

from stack.ports import HOST
from stack.rabbitmq import USER as AMQP_USER
from stack.state import StackState


class ShardEndpoints(msgspec.Struct, frozen=True, kw_only=True):
    """A pair's DSNs, passwords included."""

    name: str
    primary_dsn: str
    replica_dsn: str


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
    """Where everything is. `running`: whether all of it runs."""

    running: bool
    amqp_url: str
    management_url: str | None
    shards: list[ShardEndpoints]
    smtp: SmtpEndpoints
    twilio: TwilioEndpoints
    pids: dict[str, int]
    components: dict[str, str]
    data_dir: str


def component_names(state: StackState) -> list[str]:
    """Return the names of every process of the stack."""
    servers = [f"{shard.name}-{role}" for shard in state.shards for role in ("primary", "replica")]
    return ["epmd", "rabbitmq", *servers, "smtp_sink", "twilio_emulator"]


def status_of(state: StackState, data_dir: str) -> StackStatus:
    """Return the status of a stack as its state tells it, checked against the processes that run."""
    ports, alive = state.ports, state.alive
    dsn = f"postgresql://postorder:{state.secrets['postorder']}@{HOST}:{{}}/postorder"
    components = {name: "up" if name in alive else "down" for name in component_names(state)}
    return StackStatus(
        running=all(value == "up" for value in components.values()),
        amqp_url=f"amqp://{AMQP_USER}:{state.secrets['amqp']}@{HOST}:{ports['amqp']}/",
        management_url=None,
        shards=[
            ShardEndpoints(
                name=shard.name,
                primary_dsn=dsn.format(ports[f"{shard.name}-primary"]),
                replica_dsn=dsn.format(ports[f"{shard.name}-replica"]),
            )
            for shard in state.shards
        ],
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
