"""The generator notes when each message was confirmed, and a scenario's documentation can be run."""

import io
import re
from pathlib import Path

import numpy as np
from load_runs import STEADY, observed, reported
from rich.console import Console

from loadtest.scenarios.generator import TimedPublisher
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
