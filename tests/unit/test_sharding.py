"""The ring: pinned for ever, because rows are stored by it."""

import json
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest

from pipeline.errors import ShardMapError
from pipeline.sharding.ring import Ring
from pipeline.sharding.router import Router
from pipeline.sharding.shard_map import ShardMap
from pipeline.sharding.slots import SLOT_COUNT, hash64, slot_of

VECTORS = json.loads((Path(__file__).parents[1] / "data/vectors/sharding.json").read_text())


@pytest.mark.parametrize("vector", VECTORS["slots"], ids=lambda vector: repr(vector["key"][:20]))
def test_a_key_has_its_pinned_slot(vector: dict) -> None:
    assert f"{hash64(vector['key']):016x}" == vector["hash64"]
    assert slot_of(vector["key"]) == vector["slot"] == int(vector["hash64"], 16) % SLOT_COUNT
    assert sha256(vector["key"].encode()).hexdigest().startswith(vector["hash64"])


@pytest.mark.parametrize("vector", VECTORS["rings"], ids=lambda vector: ",".join(vector["weights"]))
def test_a_set_of_shards_has_its_pinned_owners(vector: dict) -> None:
    owners = Ring(vector["weights"]).assign()
    assert {slot: owners[int(slot)] for slot in vector["owners"]} == vector["owners"]
    assert sha256(",".join(owners).encode()).hexdigest() == vector["owners_sha256"]


def test_the_order_of_the_shards_does_not_matter() -> None:
    names = {f"shard{number}": 1 + number % 3 for number in range(7)}
    assert Ring(names).assign() == Ring(dict(reversed(names.items()))).assign()


@pytest.mark.parametrize("shards", [2, 3, 5, 8, 16, 33, 64])
def test_equal_shards_are_within_fifteen_per_cent_of_the_mean(shards: int) -> None:
    counts = Counter(Ring({f"shard{number}": 1 for number in range(shards)}).assign())
    assert len(counts) == shards
    assert max(counts.values()) <= 1.15 * SLOT_COUNT / shards


def test_a_heavier_shard_gets_its_share() -> None:
    counts = Counter(Ring({"light": 1, "heavy": 3}).assign())
    assert counts["heavy"] / SLOT_COUNT == pytest.approx(0.75, abs=0.05)


@pytest.mark.parametrize("weights", [{}, {"a": 0}, {"a": 1, "b": -1}])
def test_an_impossible_ring_is_refused(weights: dict[str, int]) -> None:
    with pytest.raises(ShardMapError):
        Ring(weights)


def test_the_map_and_the_router_agree_with_the_ring() -> None:
    shard_map = ShardMap.first({"a": 1, "b": 1})
    router = Router(shard_map)
    assert shard_map.epoch == 1
    assert sorted(shard_map.slots_of("a") + shard_map.slots_of("b")) == list(range(SLOT_COUNT))
    assert shard_map.shares() == {"a": len(shard_map.slots_of("a")), "b": len(shard_map.slots_of("b"))}
    place = router.place("order-1")
    assert place.slot == slot_of("order-1")
    assert place.shard == shard_map.owners[place.slot] == router.shard_of(place.slot)


def test_a_map_with_a_slot_missing_is_refused() -> None:
    with pytest.raises(ShardMapError, match="4096"):
        ShardMap(epoch=1, owners=("a",) * 4095)
