"""The ring as a circle: whom one meets clockwise, and that its size costs no more than it must."""

from hypothesis import given
from hypothesis import strategies as st

from pipeline.sharding.ring import SLOT_SPACING, VIRTUAL_NODES, Ring
from pipeline.sharding.slots import SLOT_COUNT, hash64

weights_of_some = st.dictionaries(
    st.from_regex(r"\A[a-z][a-z0-9]{0,5}\Z"), st.integers(1, 3), min_size=1, max_size=8
)
positions = st.integers(0, 2**64 - 1)


def points_by_definition(weights: dict[str, int]) -> list[tuple[int, str]]:
    """The module's first paragraph, word for word."""
    return sorted((hash64(f"{n}#{i}"), n) for n, w in weights.items() for i in range(VIRTUAL_NODES * w))


@given(weights_of_some, positions)
def test_the_next_shard_clockwise_is_the_owner(weights: dict[str, int], position: int) -> None:
    points = points_by_definition(weights)
    following = [name for at, name in points if at >= position] + [
        name for at, name in points if at < position
    ]
    ring = Ring(weights)
    assert list(ring.clockwise(position)) == following
    assert ring.owner_of(position) == following[0]


@given(weights_of_some)
def test_a_point_belongs_to_its_own_shard_and_the_circle_closes(weights: dict[str, int]) -> None:
    ring, points = Ring(weights), points_by_definition(weights)
    for at, name in points[:20]:
        assert ring.owner_of(at) == name
    assert ring.owner_of(points[-1][0] + 1) == points[0][1]


@given(weights_of_some, st.data())
def test_points_before_counts_what_is_passed(weights: dict[str, int], data: st.DataObject) -> None:
    ring = Ring(weights)
    name = data.draw(st.sampled_from(sorted(weights)))
    before = ring.points_before(name)
    for slot in data.draw(st.lists(st.integers(0, SLOT_COUNT - 1), max_size=10)):
        passed = list(ring.clockwise(slot * SLOT_SPACING)).index(name)
        assert before[slot] == passed


@given(weights_of_some)
def test_no_shard_takes_more_than_five_per_cent_above_its_share(weights: dict[str, int]) -> None:
    owners = Ring(weights).assign()
    for name, weight in weights.items():
        assert owners.count(name) <= 1.05 * SLOT_COUNT * weight / sum(weights.values()) + 1


def test_points_and_owners_of_a_known_ring_are_pinned() -> None:
    points = [hash64(f"shard1#{i}") for i in range(3)]
    assert points == [11158253051250684083, 6866286221154373277, 12822901339991603432]
    ring = Ring({"shard1": 1, "shard2": 1, "shard3": 2})
    owners = "".join(ring.owner_of(slot * SLOT_SPACING)[-1] for slot in range(0, SLOT_COUNT, 341))
    assert owners == "1213112321221"


class CountedPoints(list[bytes]):
    """Points that count how many of them are looked at."""

    looked_at = 0

    def __getitem__(self, index):  # a list's own search looks past this one: bisect asks a sequence by index
        self.looked_at += 1
        return super().__getitem__(index)


def test_a_lookup_in_a_large_ring_looks_at_few_points(monkeypatch) -> None:
    """A binary search takes a step for each doubling; what it costs is `make bench-ring`'s to say."""
    ring = Ring({f"shard{n}": 1 for n in range(500)})
    points = CountedPoints(ring._points)
    monkeypatch.setattr(ring, "_points", points)
    for step in range(20):
        points.looked_at = 0
        ring.owner_of(step * 0x9E37_79B9_7F4A_7C15 % 2**64)
        assert 1 < points.looked_at <= len(points).bit_length() + 2
