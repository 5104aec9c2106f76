"""Plans of slot moves: few, balanced, always the same, and refused where they make no sense."""

from collections import Counter
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.errors import ShardMapError
from pipeline.sharding.planner import SlotMove, after, plan_add, plan_move, plan_remove
from pipeline.sharding.ring import Ring
from pipeline.sharding.slots import SLOT_COUNT

Owners = tuple[str, ...]
Weights = dict[str, int]


def equal(count: int) -> Weights:
    return {f"shard{number}": 1 for number in range(1, count + 1)}


def digest(owners: Owners) -> str:
    return sha256(",".join(owners).encode()).hexdigest()


def fair(weights: Weights, name: str) -> float:
    return SLOT_COUNT * weights[name] / sum(weights.values())


def worst_load(owners: Owners, weights: Weights) -> float:
    """The fullest shard's slots, as a multiple of its share."""
    counts = Counter(owners)
    return max(counts[name] / fair(weights, name) for name in weights)


def check_add(owners: Owners, weights: Weights, new: str, moves: tuple[SlotMove, ...]) -> None:
    """What must hold of every plan that adds a shard."""
    assert [move.slot for move in moves] == sorted({move.slot for move in moves})
    assert {move.target for move in moves} == {new}
    assert all(owners[move.slot] == move.source for move in moves)
    assert len(moves) == int(fair(weights, new))
    before, changed = Counter(owners), Counter(after(owners, moves))
    excess = {name: changed[name] - fair(weights, name) for name in weights if name != new}
    # Whoever gave is level with the others that gave, and nobody who gave nothing stands above them.
    gave = [name for name in excess if changed[name] < before[name]]
    assert max(excess.values()) - min(excess[name] for name in gave) <= 1 + 1e-9


def check_remove(owners: Owners, weights: Weights, gone: str, moves: tuple[SlotMove, ...]) -> None:
    """What must hold of every plan that removes a shard."""
    assert [move.slot for move in moves] == [slot for slot in range(SLOT_COUNT) if owners[slot] == gone]
    assert {move.source for move in moves} == {gone}
    before, changed = Counter(owners), Counter(after(owners, moves))
    assert gone not in changed
    for name in weights:
        assert changed[name] <= max(before[name], -(-SLOT_COUNT * weights[name] // sum(weights.values())))


# --- pinned ----------------------------------------------------------------------------------------


def test_two_shards_become_three_and_two_again_as_pinned() -> None:
    two = Ring(equal(2)).assign()
    adding = plan_add(two, equal(3), "shard3")
    assert len(adding) == 1365
    assert adding[0] == SlotMove(6, "shard1", "shard3")
    assert adding[-1] == SlotMove(4003, "shard2", "shard3")
    three = after(two, adding)
    assert digest(three) == "8eade8c77b44f89ff9a58ec351de0d8e80ce3e31a83779569c3b0107e64bcb38"
    assert sorted(Counter(three).values()) == [1365, 1365, 1366]
    removing = plan_remove(three, {"shard2": 1, "shard3": 1}, "shard1")
    assert removing[0] == SlotMove(0, "shard1", "shard3")
    assert removing[-1] == SlotMove(4095, "shard1", "shard2")
    assert (
        digest(after(three, removing)) == "33850bc7a69c50b1835d9debceb3bf171a508baad1198e7dc35717b1aa651bda"
    )


# --- properties ------------------------------------------------------------------------------------


def test_growing_from_two_to_sixty_four_moves_little_and_stays_balanced() -> None:
    owners = Ring(equal(2)).assign()
    for shards in range(3, 65):
        moves = plan_add(owners, equal(shards), f"shard{shards}")
        check_add(owners, equal(shards), f"shard{shards}", moves)
        assert len(moves) / SLOT_COUNT <= 1.10 / shards
        owners = after(owners, moves)
        assert worst_load(owners, equal(shards)) <= 1.15


@pytest.mark.parametrize("shards", [2, 3, 4, 5, 7, 8, 13, 16, 31, 32, 33, 48, 63, 64])
def test_a_fresh_map_of_any_size_can_grow_and_shrink(shards: int) -> None:
    weights = equal(shards)
    owners = Ring(weights).assign()
    moves = plan_add(owners, {**weights, "new": 1}, "new")
    check_add(owners, {**weights, "new": 1}, "new", moves)
    assert len(moves) / SLOT_COUNT <= 1.10 / (shards + 1)
    grown = after(owners, moves)
    assert worst_load(grown, {**weights, "new": 1}) <= 1.15
    gone = f"shard{shards // 2 + 1}"
    staying = {name: 1 for name in [*weights, "new"] if name != gone}
    moves = plan_remove(grown, staying, gone)
    check_remove(grown, staying, gone, moves)
    assert worst_load(after(grown, moves), staying) <= 1.15


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from([f"s{n}" for n in range(30)]), st.integers(1, 5), min_size=2, max_size=12
    ),
    st.lists(st.tuples(st.booleans(), st.integers(0, 63), st.integers(1, 5)), max_size=12),
)
def test_any_sequence_of_changes_moves_little_and_keeps_the_balance(
    weights: Weights, steps: list[tuple[bool, int, int]]
) -> None:
    owners = Ring(weights).assign()
    for number, (grows, which, weight) in enumerate(steps):
        if grows:
            new = f"new{number}"
            weights = {**weights, new: weight}
            moves = plan_add(owners, weights, new)
            check_add(owners, weights, new, moves)
        elif len(weights) > 1:
            gone = sorted(weights)[which % len(weights)]
            weights = {name: value for name, value in weights.items() if name != gone}
            moves = plan_remove(owners, weights, gone)
            check_remove(owners, weights, gone, moves)
        else:
            continue
        owners = after(owners, moves)
        assert set(owners) == set(weights)
        assert worst_load(owners, weights) <= 1.15


@given(st.permutations([("a", 1), ("b", 2), ("c", 1), ("d", 3)]))
def test_the_order_of_the_shards_does_not_matter(order: list[tuple[str, int]]) -> None:
    plain = {"a": 1, "b": 2, "c": 1}
    owners = Ring(plain).assign()
    weights = dict(order)
    assert plan_add(owners, weights, "d") == plan_add(owners, dict(sorted(order)), "d")
    assert plan_remove(owners, weights, "b") == plan_remove(owners, dict(sorted(order)), "b")


def test_shards_that_are_not_in_the_map_take_no_part() -> None:
    owners = Ring(equal(2)).assign()
    assert plan_add(owners, {**equal(3), "later": 50}, "shard3") == plan_add(owners, equal(3), "shard3")
    assert plan_remove(owners, {**equal(2), "later": 50}, "shard1") == tuple(
        SlotMove(slot, "shard1", "shard2") for slot in range(SLOT_COUNT) if owners[slot] == "shard1"
    )


def test_a_skewed_map_is_levelled_as_far_as_moves_to_the_new_shard_can() -> None:
    owners = tuple("full" if slot % 4 else "thin" for slot in range(SLOT_COUNT))
    changed = Counter(after(owners, plan_add(owners, {"full": 1, "thin": 1, "new": 1}, "new")))
    assert changed == {"full": 1707, "thin": 1024, "new": 1365}


@pytest.mark.parametrize("full", ["a", "b", "c"])
def test_who_is_above_its_share_already_is_the_one_rounded_up(full: str) -> None:
    # 4096 slots on three shards: one has 1366. Were that another one, somebody would end with 1364.
    counts = {name: 1366 if name == full else 1300 for name in ("a", "b", "c")} | {"gone": 130}
    owners = tuple(name for name, count in counts.items() for _ in range(count))
    changed = Counter(after(owners, plan_remove(owners, {"a": 1, "b": 1, "c": 1}, "gone")))
    assert changed == {name: 1366 if name == full else 1365 for name in ("a", "b", "c")}


def test_adding_prefers_the_slots_next_to_the_new_shard() -> None:
    owners = Ring(equal(4)).assign()
    ring = Ring(equal(5))
    before = ring.points_before("shard5")
    taken = [before[move.slot] for move in plan_add(owners, equal(5), "shard5")]
    left = [before[slot] for slot in range(SLOT_COUNT)]
    assert sum(taken) / len(taken) < 0.2 * sum(left) / len(left)


# --- chosen slots ------------------------------------------------------------------------------------


@given(st.sets(st.integers(0, SLOT_COUNT - 1), max_size=50))
def test_chosen_slots_go_where_they_are_told(slots: set[int]) -> None:
    owners = Ring(equal(3)).assign()
    wanted = {slot for slot in slots if owners[slot] != "shard2"}
    moves = plan_move(owners, wanted, "shard2")
    assert all(one.slot < other.slot for one, other in pairwise(moves))
    changed = after(owners, moves)
    assert {slot for slot in range(SLOT_COUNT) if changed[slot] != owners[slot]} == wanted
    assert all(changed[slot] == "shard2" for slot in wanted)


# --- refused -----------------------------------------------------------------------------------------

TWO: Owners = ("a", "b") * (SLOT_COUNT // 2)


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        (lambda: plan_add(TWO, {"a": 1, "b": 1}, "b"), r"shard b is in the map already"),
        (lambda: plan_add(TWO, {"a": 1, "b": 1}, "c"), r"unknown shard c: .* no weight in the settings"),
        (lambda: plan_add(TWO, {"a": 1, "c": 1}, "c"), r"unknown shard b: .* no weight in the settings"),
        (lambda: plan_add(TWO, {"a": 1, "b": 1, "c": 0}, "c"), r"less than one"),
        (lambda: plan_add(TWO[1:], {"a": 1, "b": 1, "c": 1}, "c"), r"4096 slots, not 4095"),
        (lambda: plan_remove(TWO, {"a": 1, "b": 1}, "c"), r"unknown shard c: it owns no slots"),
        (lambda: plan_remove(TWO, {}, "a"), r"unknown shard b: .* no weight in the settings"),
        (lambda: plan_remove(("a",) * SLOT_COUNT, {}, "a"), r"shard a is the last one"),
        (lambda: plan_remove(("a",) * SLOT_COUNT, {"b": 1}, "a"), r"shard a is the last one"),
        (lambda: plan_remove(TWO[1:], {"b": 1}, "a"), r"4096 slots, not 4095"),
        (lambda: plan_move(TWO, [0], "c"), r"unknown shard c"),
        (lambda: plan_move(TWO, [4096], "a"), r"slot 4096: slots are 0 to 4095"),
        (lambda: plan_move(TWO, [-1], "a"), r"slot -1: slots are 0 to 4095"),
        (lambda: plan_move(TWO, [1, 3, 1], "a"), r"slot 1 is named twice"),
        (lambda: plan_move(TWO, [1, 2], "a"), r"slot 2 is on shard a already"),
        (lambda: after(TWO, [SlotMove(0, "b", "a")]), r"slot 0 is on shard a, not on b: the map changed"),
    ],
)
def test_what_makes_no_sense_is_refused_in_one_line(plan: object, message: str) -> None:
    with pytest.raises(ShardMapError, match=message) as refused:
        plan()  # type: ignore[operator]
    assert "\n" not in str(refused.value)
