"""Which processes a stack is made of, and which ports each of them owns."""

from stack.ha import member_names
from stack.state import StackState


def component_names(state: StackState) -> list[str]:
    """Return the names of every process of the stack. Under Patroni, a member's is its Patroni's."""
    servers = [name for shard in state.shards for name in server_names(shard.name, ha=state.ha)]
    return ["epmd", "rabbitmq", *(["etcd"] if state.ha else []), *servers, "smtp_sink", "twilio_emulator"]


def server_names(shard: str, *, ha: bool) -> list[str]:
    """Return the names of a shard's two PostgreSQL servers."""
    return member_names(shard) if ha else [f"{shard}-primary", f"{shard}-replica"]


def port_owners(state: StackState) -> dict[str, str]:
    """Return the ports of the stack by name, each with the process that owns it."""
    owners = {
        "amqp": "rabbitmq",
        "amqp_dist": "rabbitmq",
        "epmd": "epmd",
        "smtp": "smtp_sink",
        "smtp_api": "smtp_sink",
        "twilio": "twilio_emulator",
    }
    if state.ha:
        owners |= {"etcd": "etcd", "etcd_peer": "etcd"}
    for shard in state.shards:
        for name in server_names(shard.name, ha=state.ha):
            owners[name] = name
            if state.ha:
                owners[f"{name}-api"] = name
    return owners
