"""The parts of a change of shards that need no database."""

from datetime import UTC, datetime
from itertools import pairwise
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from consumers.cli import app
from pipeline.errors import ReshardingError, SettingsError
from pipeline.resharding.change import pieces
from pipeline.resharding.planning import as_ranges, parse_slots
from pipeline.resharding.throttle import Limits
from pipeline.settings import ShardSettings
from pipeline.sharding.planner import SlotMove
from pipeline.storage.checksums import Differences
from pipeline.storage.conninfo import conninfo_of
from pipeline.storage.move_table import Move
from pipeline.storage.slot_rows import SlotSize

SLOTS = st.sets(st.integers(0, 4095), min_size=1)


@given(SLOTS)
def test_ranges_are_read_as_they_are_written(slots: set[int]) -> None:
    text = as_ranges(slots)
    assert parse_slots(text) == sorted(slots)
    ends = [tuple(map(int, part.split("-"))) for part in text.split(",")]
    assert all(later[0] > earlier[-1] + 1 for earlier, later in pairwise(ends))


@pytest.mark.parametrize("text", ["", "a", "1-", "-1", "5-3", "4096", "1,,2", "1-4096", "1.5"])
def test_what_is_no_range_of_slots_is_refused(text: str) -> None:
    with pytest.raises(ReshardingError):
        parse_slots(text)


@pytest.mark.parametrize("command", [["shards", "move"], ["shards", "plan", "move"]])
def test_slots_that_there_are_not_are_a_wrong_use(command: list[str]) -> None:
    """A SettingsError ends a command with status 2."""
    result = CliRunner().invoke(app, [*command, "--slots", "5000", "--to", "shard1"])
    assert isinstance(result.exception, SettingsError)
    assert str(result.exception) == "--slots: 5000: slots are 0 to 4095, the lower one first"


@given(SLOTS, st.integers(0, 10**12), st.integers(1, 8))
def test_a_large_copy_is_cut_into_even_pieces(slots: set[int], size: int, pieces_max: int) -> None:
    limits = Limits(copy_bytes_max=1000, pieces_max=pieces_max)
    plan = [SlotMove(slot, "a" if slot % 2 else "b", "c") for slot in sorted(slots)]
    moves = pieces(plan, dict.fromkeys(slots, SlotSize(1, size)), limits)
    assert sorted(slot for move in moves for slot in move.slots) == sorted(slots)
    for source in ("a", "b"):
        lengths = [len(move.slots) for move in moves if move.source == source]
        assert len(lengths) <= pieces_max
        assert not lengths or max(lengths) - min(lengths) <= 1


def test_the_names_of_a_moves_links_are_plain_and_its_own() -> None:
    moves = [
        Move(move_id=uuid4(), source="a", target="b", slots=(1,), started_at=datetime.now(UTC))
        for _ in range(2)
    ]
    names = {name for move in moves for name in (move.link_name, move.back_link_name)}
    assert len(names) == 4
    assert all(name.replace("_", "").isalnum() and len(name) < 64 for name in names)
    assert len({*(move.move_id for move in moves), *(move.back_marker for move in moves)}) == 4


def test_an_address_in_libpqs_words() -> None:
    shard = ShardSettings(name="s", primary="postgresql://me@h1:5433/data", password="it's \\ secret")
    found = conninfo_of(shard)
    assert found.startswith(r"host='h1' port='5433' user='me' password='it\'s \\ secret' dbname='data'")
    assert "target_session_attrs" not in found


def test_an_address_of_several_hosts_asks_for_the_one_that_writes() -> None:
    shard = ShardSettings(name="s", primary="postgresql://me@h1,[::1]:6/data?sslmode=require", password="x")
    found = conninfo_of(shard)
    assert "host='h1,::1' port='5432,6'" in found
    assert "target_session_attrs='read-write'" in found
    assert "sslmode='require'" in found


def test_differences_add_up() -> None:
    one = Differences(slots=1, rows=5, missing=1, where=("orders slot 1",))
    both = one.plus(Differences(slots=2, rows=6, mismatched=2))
    assert both == Differences(slots=3, rows=11, missing=1, mismatched=2, where=("orders slot 1",))
    assert not both.is_clean
    assert str(both) == "11 rows of 3 slots: 1 missing, 0 extra, 2 mismatched: orders slot 1"
