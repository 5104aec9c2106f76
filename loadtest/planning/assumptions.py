"""What a plan takes for granted: machines, prices, providers' limits. Data, in `assumptions.toml`."""

from pathlib import Path
from typing import Annotated

import msgspec
from msgspec import Meta

from loadtest.planning.toml_file import read_toml

SHIPPED = Path(__file__).with_name("assumptions.toml")

Positive = Annotated[float, Meta(gt=0)]
Share = Annotated[float, Meta(gt=0, le=1)]
Some = Annotated[int, Meta(ge=1)]
Amount = Annotated[float, Meta(ge=0)]


class Machine(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One machine, all alike. The fill limits are shares of disk and network."""

    cores: Some
    memory_gb: Positive
    disk_gb: Positive
    disk_fill_max: Share
    network_mbit: Positive
    network_fill_max: Share


class Utilisation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How busy CPUs may be, and how uneven shards."""

    planned_share: Share
    skew_max: Annotated[float, Meta(ge=1)]


class Broker(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The broker cluster."""

    quorum: Some
    follower_share: Annotated[float, Meta(ge=0, le=1)]
    queue_share_max: Share


class Postgresql(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The shards' servers."""

    connections_max: Some
    copies: Some


class Sms(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The SMS provider. `segments_per_s`: of one sender, by its kind."""

    latency_s: Positive
    concurrent_calls_max: Some
    senders_max: Some
    sender: str
    segments_per_s: dict[str, Positive]


class Mail(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The mail relay."""

    latency_s: Positive
    mails_per_s: Amount


class Prices(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Prices in one currency."""

    currency: str
    machine_hour: Amount
    sms_segment: Amount
    mails_1000: Amount
    sender_month: Amount


class PipelineSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The pipeline's settings that a plan goes by."""

    batch_max: Some
    batches_in_flight: Some
    buffer_events_max: Some
    lingers_ms: Annotated[list[Positive], Meta(min_length=1)]
    connections_of_a_consumer: Some
    connections_of_a_sender: Some
    calls_max: Some


class Assumptions(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything a plan takes for granted."""

    machine: Machine
    utilisation: Utilisation
    broker: Broker
    postgresql: Postgresql
    sms: Sms
    mail: Mail
    prices: Prices
    settings: PipelineSettings


def load_assumptions(path: Path = SHIPPED) -> Assumptions:
    """Read a file of assumptions. Raises SettingsError naming the file and the key."""
    return read_toml(path, Assumptions)
