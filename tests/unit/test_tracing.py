"""Traces are off unless they are asked for, and then nothing of them is there."""

import subprocess
import sys
from typing import Any

import msgspec
import pytest

from consumers.tracing import tracing_of
from pipeline.clock import SystemClock
from pipeline.errors import SettingsError
from pipeline.lifecycle import Tasks
from pipeline.observability.metrics import Metrics
from pipeline.settings import Settings, ShardSettings, TraceSettings
from pipeline.settings.contradictions import contradictions

SHARD = ShardSettings(name="a", primary="postgresql://u@h:1/d")


def tracing(endpoint: str) -> Any:
    return tracing_of(
        TraceSettings(endpoint=endpoint),
        roles=frozenset({"orders"}),
        metrics=Metrics(),
        clock=SystemClock(),
        new_tasks=lambda: Tasks(print),
    )


def test_without_an_endpoint_there_is_nothing() -> None:
    assert tracing("") is None
    assert tracing("http://127.0.0.1:9/v1/traces") is not None


def test_a_process_that_does_not_trace_loads_none_of_it() -> None:
    look = (
        "import sys, consumers.bootstrap\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google'))])"
    )
    found = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_what_is_not_installed_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    name = "opentelemetry.proto.collector.trace.v1.trace_service_pb2"
    monkeypatch.setitem(sys.modules, name, None)
    for module in ("otlp", "export"):
        monkeypatch.delitem(sys.modules, f"pipeline.observability.tracing.{module}", raising=False)
    with pytest.raises(SettingsError, match=r"traces\.endpoint: needs the extra `traces` to be installed"):
        tracing("http://127.0.0.1:9/v1/traces")


@pytest.mark.parametrize(
    ("given", "problem"),
    [
        ({"endpoint": "localhost:4318"}, "traces.endpoint: must be of the form http://"),
        ({"endpoint": "https://u:secret@host/v1/traces"}, "traces.endpoint"),
        ({"endpoint": "http://host/v1/traces", "authorization": "x"}, "traces.endpoint: must be https"),
    ],
)
def test_what_is_wrong_with_the_settings_is_said(given: dict[str, Any], problem: str) -> None:
    settings = Settings(shards=(SHARD,), traces=TraceSettings(**given))
    found = [one for one in contradictions(settings) if one.startswith("traces")]
    assert len(found) == 1
    assert found[0].startswith(problem)
    assert "secret" not in found[0]


def test_what_is_right_is_not() -> None:
    for given in (
        {},
        {"endpoint": "http://tempo:4318/v1/traces"},
        {"endpoint": "http://127.0.0.1:4318/v1/traces", "authorization": "x"},
        {"endpoint": "https://host/v1/traces", "authorization": "x"},
    ):
        settings = Settings(shards=(SHARD,), traces=TraceSettings(**given))
        assert [one for one in contradictions(settings) if one.startswith("traces")] == []


def test_a_share_is_a_share() -> None:
    for ratio in (-0.1, 1.1):
        with pytest.raises(msgspec.ValidationError):
            msgspec.convert({"sample_ratio": ratio}, TraceSettings)
