"""How a load test goes, while it goes: a table that changes on a terminal, lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.live import Live
from rich.table import Table

from loadtest.scenarios.samples import Sample
from loadtest.scenarios.scenario import Phase, Scenario

_LINE_EVERY_S = 5.0


class ConsoleAudience:
    """Shows samples; a context manager. Mutable state: the sample before, for rates."""

    def __init__(self, scenario: Scenario, console: Console) -> None:
        self._scenario = scenario
        self._console = console
        self._before: Sample | None = None
        self._said_at = float("-inf")
        self._live = Live(console=console, auto_refresh=False, transient=True)

    def __enter__(self) -> Self:
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def say(self, text: str) -> None:
        """Print a line."""
        self._console.print(f"loadtest: {text}", highlight=False, markup=False, soft_wrap=True)

    def tell(self, sample: Sample, phase: Phase | None) -> None:
        """Show a sample."""
        before, self._before = self._before, sample
        if before is None:
            return
        row = _row(sample, before, phase)
        if self._console.is_terminal:
            self._live.update(self._table(row, sample), refresh=True)
        elif sample.at_s - self._said_at >= _LINE_EVERY_S:
            self._said_at = sample.at_s
            self.say(", ".join(f"{name} {value}" for name, value in row.items()))

    def _table(self, row: dict[str, str], sample: Sample) -> Table:
        title = f"{self._scenario.name}: {max(0.0, sample.at_s):.0f} of {self._scenario.seconds:.0f} s"
        table = Table(*row, title=title, title_justify="left")
        table.add_row(*row.values())
        return table


def _row(sample: Sample, before: Sample, phase: Phase | None) -> dict[str, str]:
    seconds = max(1e-9, sample.at_s - before.at_s)

    def rate(name: str) -> str:
        gained: int = getattr(sample, name) - getattr(before, name)
        return f"{gained / seconds:,.0f}/s"

    return {
        "phase": phase.name if phase else "settling",
        "due": rate("due"),
        "sent": rate("sent"),
        "committed": rate("committed"),
        "SMS": rate("sms"),
        "mails": rate("mails"),
        "in queues": f"{sum(sample.queues.values()):,}",
        "generator late": f"{sample.late_s * 1e3:,.0f} ms",
    }
