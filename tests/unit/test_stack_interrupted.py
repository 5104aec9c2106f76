"""Ctrl-C while servers start: it is heard at once, ends what is under way, and says what runs then."""

import signal
import threading
from collections.abc import Iterator
from pathlib import Path
from threading import Event
from typing import Any

import pytest
from typer.testing import CliRunner

from consumers import stack_commands
from stack.launch import Launch
from stack.state import ShardConfig, new_state
from stack.status import StackStatus

LIMIT_S = 20.0
TRIES_MAX = 20


class MakingPair:
    """A pair that is being made when Ctrl-C comes, and is finished after that was answered."""

    name = "shard0"
    is_complete = False

    def __init__(self, heard: Event, all_begun: Event) -> None:
        self._heard = heard
        self._all_begun = all_begun
        self.was_heard = self.was_started = False

    def make(self) -> None:
        main = threading.main_thread().ident
        assert main is not None
        assert self._all_begun.wait(LIMIT_S)
        for _ in range(TRIES_MAX):
            # Python hears nothing of one that comes just before it begins to wait, until the next.
            signal.pthread_kill(main, signal.SIGINT)
            self.was_heard = self._heard.wait(1.0)
            if self.was_heard:
                return

    def start(self) -> dict[str, Any]:
        self.was_started = True
        return {}


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Ctrl-C as in a terminal: whoever started the tests in the background had them ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_what_is_under_way_is_finished_and_nothing_else_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, all_begun, begin = Event(), Event(), Launch._begin

    def progress(text: str) -> None:
        if text.startswith("interrupted: "):
            heard.set()

    def begun(launch: Launch, *given: Any) -> list[Any]:
        futures = begin(launch, *given)
        all_begun.set()
        return futures

    pair = MakingPair(heard, all_begun)
    monkeypatch.setattr(Launch, "_begin", begun)
    monkeypatch.setattr(Launch, "pair", lambda _launch, _shard: pair)
    monkeypatch.setattr(Launch, "_start_rabbit", lambda _launch, _node: None)
    monkeypatch.setattr(Launch, "_rabbit_node", lambda _launch: None)
    monkeypatch.setattr(Launch, "_start_emulator", lambda _launch, _name: None)
    state = new_state(tmp_path / "servers", [ShardConfig(name="shard0")])
    with pytest.raises(KeyboardInterrupt):
        Launch(tmp_path, state, None, progress)._start_all()
    assert pair.was_heard  # while it was being made, not afterwards
    assert not pair.was_started


@pytest.mark.parametrize(
    ("components", "words"),
    [
        (
            {"rabbitmq": "up", "shard0-primary": "stopped"},
            "1 of 2 servers run: `postorder stack up --data-dir ",
        ),
        ({"rabbitmq": "stopped"}, "interrupted: nothing runs"),
    ],
)
def test_stack_up_says_what_runs_and_how_to_stop_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, components: dict[str, str], words: str
) -> None:
    def interrupted(*_arguments: Any) -> StackStatus:
        raise KeyboardInterrupt

    class Found:
        shards = ()

    Found.components = components  # type: ignore[attr-defined]
    monkeypatch.setattr(stack_commands, "up", interrupted)
    monkeypatch.setattr(stack_commands, "status", lambda _folder: Found)
    result = CliRunner().invoke(stack_commands.stack_app, ["up", "--data-dir", str(tmp_path)])
    assert result.exit_code == stack_commands.INTERRUPTED
    assert words in result.output
    assert ("stack down" in result.output) == ("up" in components.values())
