"""Who hears of claims, and for how long."""

from claims import claim

from consumers.notifications import notification_services
from pipeline.clock import SystemClock
from pipeline.lifecycle import Tasks
from pipeline.notifications.contacts import ContactBook
from pipeline.notifications.foresight import Foresight
from pipeline.notifications.mail.templates import templates_of
from pipeline.observability.metrics import Metrics
from pipeline.settings import Settings, ShardSettings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Claim
from pipeline.storage.outbox_news import OutboxNews
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


async def test_a_sender_looks_customers_up_when_their_claims_come() -> None:
    settings, clock = Settings(shards=(shard_named("a"),)), SystemClock()
    cluster, crashes = Cluster(settings), []

    def new_tasks() -> Tasks:
        return Tasks(lambda *crash: crashes.append(crash))

    services = notification_services(
        settings,
        cluster,
        templates=templates_of(settings.notifications),
        news=OutboxNews(cluster, listens=False, clock=clock, tasks=new_tasks()),
        metrics=Metrics(),
        clock=clock,
        new_tasks=new_tasks,
        parts={},
    )
    [book] = [service for service in services if isinstance(service, ContactBook)]
    [foresight] = [service for service in services if isinstance(service, Foresight)]
    assert services.index(book) < services.index(foresight)  # which tells it until the relays have ended
    await foresight.start()
    for tell in cluster["a"].outbox.on_claimed:
        tell([claim(customer_id="c-1"), claim(customer_id="c-2")])
    assert [question.customer_id for question in book._waiting["a"]] == ["c-1", "c-2"]
    for service in reversed(services):
        await service.stop()
    assert crashes == []
