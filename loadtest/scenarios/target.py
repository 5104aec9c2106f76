"""What a load test runs against: a stack of its own, or an installation that runs already."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

import msgspec

from consumers.connection import connection
from consumers.migration import apply_to_broker, migrate_all
from consumers.stack_commands import in_one_line
from consumers.stack_settings import write_stack_settings
from consumers.topology import ORDER_QUEUE, queue_depths
from loadtest.scenarios.scenario import LoadTestError, Scenario, ServerKilled, StandInFault
from pipeline.settings import Settings, load_settings
from pipeline.storage.cluster import Cluster
from stack.launcher import StackConfig, down, reset, status, up
from stack.state import ShardConfig
from stack.status import StackStatus

Say = Callable[[str], None]
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


class RefusedError(LoadTestError):
    """What was asked for had better not be done to this installation: wrong use."""


class Target(msgspec.Struct, frozen=True, kw_only=True):
    """An installation. `stack`: the local stack it is, if so. `own`: we start its pipeline ourselves."""

    settings_file: Path
    settings: Settings
    stack: StackStatus | None
    own: bool

    @property
    def description(self) -> str:
        """What the report says of it; no host or port."""
        shards = len(self.settings.shards)
        kind = "a stack of its own" if self.own else "an installation that ran already"
        return f"{kind}, {shards} {'shard' if shards == 1 else 'shards'}"


def shard_names(scenario: Scenario, config: Path | None) -> list[str]:
    """Return the shards of an installation; None: of a scenario's own stack. Raises SettingsError."""
    if config is None:
        return [f"shard{number}" for number in range(scenario.shards)]
    return [shard.name for shard in load_settings(config).shards]


@contextmanager
def own_stack(scenario: Scenario, data_dir: Path, say: Say, *, keep: bool = False) -> Iterator[Target]:
    """Start a stack for a scenario, and take it down and delete it afterwards. Raises StackCommandError."""
    shards = tuple(ShardConfig(name=name) for name in shard_names(scenario, None))
    try:
        with in_one_line():
            stack = up(StackConfig(data_dir=data_dir, shards=shards), say)
        settings_file = write_stack_settings(stack, data_dir, with_callbacks=True)
        yield Target(
            settings_file=settings_file, settings=load_settings(settings_file, {}), stack=stack, own=True
        )
    finally:
        if not keep:
            with in_one_line():
                down(data_dir, say)
                reset(data_dir, say)


async def prepare(target: Target, scenario: Scenario) -> None:
    """Make tables and queues on a stack of our own; shards that are to be idle get no slots."""
    settings = target.settings
    if scenario.idle_shards:
        first = msgspec.structs.replace(settings, shards=settings.shards[: -scenario.idle_shards])
        await migrate_all(first)
    await migrate_all(settings)
    await apply_to_broker(settings)


def running_target(config: Path, scenario: Scenario, *, may_break: bool, may_send: bool) -> Target:
    """Return an installation that runs. Raises RefusedError, and LoadTestError when it does not run."""
    settings = load_settings(config)
    with in_one_line():
        stack = status(config.parent)
    if stack is not None and not stack.running:
        raise LoadTestError(f"the stack in {config.parent} does not run: run `postorder stack up`")
    if stack is not None and stack.amqp_url.rpartition("@")[2] not in settings.amqp.url:
        stack = None  # the settings are of something else
    if scenario.destroys and not may_break:
        raise RefusedError(
            f"{scenario.name} breaks things ({'; '.join(scenario.destroys)}): leave --config out to run it "
            "on a stack of its own, or give --may-break-this-installation"
        )
    if scenario.sends and not may_send and not _sends_to_stand_ins(settings):
        raise RefusedError(
            f"{scenario.name} makes orders whose SMS and mails go out: sms.base_url and email.host of "
            f"{config} are not on this machine; leave --config out, or give --may-send-messages"
        )
    if stack is None and _needs_stack(scenario):
        raise RefusedError(
            f"{scenario.name} needs servers and stand-ins it can command, and {config} is not of a local "
            "stack: leave --config out"
        )
    return Target(settings_file=config, settings=settings, stack=stack, own=False)


def _needs_stack(scenario: Scenario) -> bool:
    faults = [fault for phase in scenario.phases for fault in phase.faults]
    return any(isinstance(fault, ServerKilled | StandInFault) for fault in faults)


def _sends_to_stand_ins(settings: Settings) -> bool:
    hosts = [urlsplit(settings.sms.base_url).hostname or "", settings.email.host]
    return all(host in _LOOPBACK for host in hosts)


async def check_runs(target: Target, cluster: Cluster) -> None:
    """Raise for an installation that is not there, or that nobody works in.

    Raises StorageUnavailableError, BrokerUnavailableError, LoadTestError.
    """
    for shard in cluster:
        await shard.primary.open()
    amqp = target.settings.amqp
    async with connection(amqp, "postorder loadtest") as broker:
        depths = await queue_depths(await broker.channel())
    consumers = {depth.name: depth.consumers for depth in depths}
    if not target.own and not consumers[ORDER_QUEUE]:
        raise LoadTestError(
            "nobody consumes order-processed: start the pipeline there (`postorder run`), or leave "
            "--config out"
        )
