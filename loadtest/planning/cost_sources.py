"""What the benchmarks' JSON files hold that a cost vector is made of."""

import json
from pathlib import Path
from typing import Any

import msgspec

from loadtest.intake_bench import Flow, OpenLoop
from loadtest.planning.costs import Measured
from loadtest.writer_bench import WriterFigures
from pipeline.errors import SettingsError


class IntakeFile(msgspec.Struct, frozen=True, kw_only=True):
    """var/bench/intake.json, as far as it is needed."""

    at: str
    machine: str
    command: str
    single: Flow
    batch50: Flow
    drain: Flow
    open_loop: OpenLoop


class WriterFile(msgspec.Struct, frozen=True, kw_only=True):
    """var/bench/writer.json."""

    at: str
    machine: str
    command: str
    figures: list[WriterFigures]


class PartCpu(msgspec.Struct, frozen=True, kw_only=True):
    """Microseconds of CPU per message."""

    sender: float
    primaries: float
    replicas: float


class SendingDrain(msgspec.Struct, frozen=True, kw_only=True):
    """A full outbox sent."""

    cpu_us: PartCpu
    sender_rss_mb: float


class NotificationsFile(msgspec.Struct, frozen=True, kw_only=True):
    """var/bench/notifications.json, as far as it is needed."""

    at: str
    machine: str
    command: str
    sms: SendingDrain
    email: SendingDrain


class ReshardChange(msgspec.Struct, frozen=True, kw_only=True):
    """A shard came or went."""

    rows: int
    move_s: float
    stall_ms_p50: float


class ReshardFile(msgspec.Struct, frozen=True, kw_only=True):
    """var/bench/reshard.json."""

    at: str
    machine: str
    command: str
    add: ReshardChange
    remove: ReshardChange


class FootprintFile(msgspec.Struct, frozen=True, kw_only=True):
    """var/bench/footprint.json: bytes by `python -m loadtest.planning footprint`."""

    at: str
    machine: str
    command: str
    event_bytes: float
    order_bytes: float
    invoice_bytes: float
    wal_event_bytes: float
    wal_message_bytes: float


class PhaseLatency(msgspec.Struct, frozen=True, kw_only=True):
    """Milliseconds from the planned moment."""

    p50_ms: float
    p99_ms: float


class RampPhase(msgspec.Struct, frozen=True, kw_only=True):
    """A step of a ramp: `machine_cores` were busy, `lag_s` of work was open at its end; `cores` by part."""

    measured: bool
    events_per_s: float
    lag_s: dict[str, float]
    latencies: dict[str, PhaseLatency]
    machine_cores: float
    cores: dict[str, float] = {}

    @property
    def keeps_up(self) -> bool:
        """Whether what came was done."""
        return "committed" in self.latencies and max(self.lag_s.values(), default=0.0) < 1


class RampFile(msgspec.Struct, frozen=True, kw_only=True):
    """var/loadtest/ramp-intake.json: latency by rate, as far as it is needed."""

    at: str
    machine: str
    command: str
    phases: list[RampPhase]


class Files(msgspec.Struct, frozen=True, kw_only=True):
    """What there is; None: that benchmark was not run."""

    intake: IntakeFile | None
    writer: WriterFile | None
    notifications: NotificationsFile | None
    reshard: ReshardFile | None
    footprint: FootprintFile | None
    ramp: RampFile | None


def read_files(folder: Path, loadtests: Path) -> Files:
    """Read every file that is there. Raises SettingsError for one that is not what it should be."""
    return Files(
        intake=_read(folder / "intake.json", IntakeFile),
        writer=_read(folder / "writer.json", WriterFile),
        notifications=_read(folder / "notifications.json", NotificationsFile),
        reshard=_read(folder / "reshard.json", ReshardFile),
        footprint=_read(folder / "footprint.json", FootprintFile),
        ramp=_read(loadtests / "ramp-intake.json", RampFile),
    )


def _read(path: Path, kind: Any) -> Any:
    try:
        return msgspec.json.decode(path.read_bytes(), type=kind)
    except FileNotFoundError:
        return None
    except (OSError, msgspec.DecodeError) as error:
        raise SettingsError([f"{path}: {error}"]) from error


def from_file(file: Any, value: float, unit: str, note: str) -> Measured:
    """Return a figure of a file."""
    return Measured(
        value=float(f"{value:.4g}"),
        unit=unit,
        command=file.command,
        at=file.at,
        machine=file.machine,
        note=note,
    )


def as_toml(figures: dict[str, Measured]) -> str:
    """Return a cost vector as TOML text."""
    lines = ["# The cost vector: written by `python -m loadtest.planning costs` from var/bench/*.json."]
    lines += ["# A figure without a command is an estimate that no benchmark has measured yet."]
    for name, figure in figures.items():
        lines += ["", f"[{name}]", f"value = {figure.value:g}", f"unit = {_text(figure.unit)}"]
        lines += [
            f"{key} = {_text(getattr(figure, key))}"
            for key in ("command", "at", "machine", "note")
            if key == "command" or getattr(figure, key)
        ]
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    return json.dumps(value, ensure_ascii=False)  # a JSON string is a TOML basic string
