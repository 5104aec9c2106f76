"""The generator notes when each message was confirmed, and a scenario's documentation can be run."""

import asyncio
import io
import re
import time
from pathlib import Path
from typing import Any

import numpy as np
from load_runs import STEADY, observed, reported
from rich.console import Console

from loadtest.scenarios.arrivals import plan
from loadtest.scenarios.generator import Generator, TimedPublisher
from loadtest.scenarios.progress import ConsoleAudience
from loadtest.scenarios.scenario import checked, scenario_of_file
from loadtest.scenarios.summary import print_summary
from pipeline.settings import AmqpSettings

DOCS = Path(__file__).parents[2] / "docs/how-to/load-test.md"


def confirmed(publisher: TimedPublisher) -> list[int]:
    return [tag for tag in range(1, 9) if np.isfinite(publisher.confirmed_at[tag])]


def test_each_confirm_is_noted_once_whatever_order_they_come_in() -> None:
    publisher = TimedPublisher(AmqpSettings(), 8)
    publisher._unconfirmed.extend(range(1, 9))
    publisher.on_confirm(3, multiple=False, confirmed=True)
    first = publisher.confirmed_at[3]
    assert confirmed(publisher) == [3]
    publisher.on_confirm(5, multiple=True, confirmed=True)
    assert confirmed(publisher) == [1, 2, 3, 4, 5]
    assert publisher.confirmed_at[3] == first
    publisher.on_confirm(7, multiple=False, confirmed=False)
    assert confirmed(publisher) == [1, 2, 3, 4, 5]
    publisher.on_confirm(8, multiple=True, confirmed=True)
    assert confirmed(publisher) == [1, 2, 3, 4, 5, 6, 8]  # what was refused stays so
    assert publisher.confirmed == 7
    assert publisher.refused == 1


class Line:
    """A connection that takes what is written, in its own time."""

    def __init__(self, takes_s: float) -> None:
        self._takes_s = takes_s
        self.writable = asyncio.Event()
        self.writable.set()

    def send(self, frames: bytes) -> None:
        assert frames
        time.sleep(self._takes_s)


async def test_only_a_wait_for_the_broker_is_one() -> None:
    """A slow write is the generator's own, or its machine's; one that may not begin yet is the broker's."""
    generator = Generator(AmqpSettings(), plan(STEADY), "0" * 8)
    line: Any = Line(takes_s=0.005)
    generator._publisher._protocol = line
    for _ in range(3):
        await generator._one()
    assert generator.blocked_s == 0
    for held, frees in ((line.writable, 0.03), (generator._publisher._room, 0.02)):
        before = generator.blocked_s
        held.clear()
        asyncio.get_running_loop().call_later(frees, held.set)
        await generator._one()
        assert generator.blocked_s - before >= frees * 0.9
    assert generator.sent == 5


def test_the_scenario_in_the_documentation_is_one(tmp_path: Path) -> None:
    [text] = re.findall(r"```toml\n(.*?)```", DOCS.read_text(), re.DOTALL)
    file = tmp_path / "lunch.toml"
    file.write_text(text)
    lunch = checked(scenario_of_file(file))
    assert [phase.load_end for phase in lunch.phases] == [None, 4.0]
    assert lunch.phases[1].faults[0].stand_in == "email"


def test_progress_away_from_a_terminal_is_a_line_in_five_seconds() -> None:
    console = Console(record=True, width=300, force_terminal=False, file=io.StringIO())
    samples = observed().samples
    with ConsoleAudience(STEADY, console) as audience:
        for sample in samples[:12]:
            audience.tell(sample, STEADY.phases[1])
        audience.tell(samples[20], None)
    lines = console.export_text().splitlines()
    assert len(lines) == 4
    assert all(line.startswith("loadtest: phase steady, due ") for line in lines[:3])
    assert "phase settling" in lines[3]


def test_the_summary_says_what_the_report_says() -> None:
    console = Console(record=True, width=200, force_terminal=False, file=io.StringIO())
    print_summary(reported(observed(late_s=0.2)), console)
    text = console.export_text()
    assert "bottleneck: the load generator (in steady)" in text
    assert "Not valid" in text
    assert "committed on both" in text
