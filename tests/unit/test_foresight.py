"""Who hears of claims, and for how long."""

from claims import claim

from pipeline.notifications.foresight import Foresight
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Claim
from pipeline.storage.shard import Shard


def shard_named(name: str) -> ShardSettings:
    return ShardSettings(name=name, primary=f"postgresql://u@127.0.0.1:1/{name}")


async def test_claims_of_every_shard_are_told_also_of_one_that_comes_later_until_it_stops() -> None:
    settings = Settings(shards=(shard_named("a"), shard_named("b")))
    cluster, told = Cluster(settings), []

    def expect(claims: list[Claim]) -> None:
        told.append([one.shard for one in claims])

    foresight = Foresight(cluster, expect)
    await foresight.start()
    late = Shard(shard_named("c"), settings.storage, settings.notifications)
    cluster.shards["c"] = late
    for added in cluster.on_added:
        added(late)
    for shard in cluster:
        for tell in shard.outbox.on_claimed:
            tell([claim(shard=shard.name)] * 2)
    assert told == [["a", "a"], ["b", "b"], ["c", "c"]]
    await foresight.drain()
    await foresight.stop()
    assert [shard.outbox.on_claimed for shard in cluster] == [[], [], []]
    assert cluster.on_added == []
