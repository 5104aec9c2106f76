"""The rules of sending put together from the settings."""

from collections.abc import Callable

from consumers.standings import Standings
from pipeline.clock import Clock
from pipeline.lifecycle import Tasks
from pipeline.notifications.rules.countries import Countries
from pipeline.notifications.rules.quiet_hours import QuietHours
from pipeline.notifications.rules.recipient_book import RecipientBook
from pipeline.notifications.rules.recipients import Recipients
from pipeline.notifications.rules.sending_rules import SendingRules
from pipeline.notifications.rules.spending import Spending
from pipeline.observability.metrics import Metrics
from pipeline.observability.rule_metrics import RuleMetrics
from pipeline.settings import Settings
from pipeline.storage.cluster import Cluster
from pipeline.storage.outbox import Channel


def sending_rules(
    settings: Settings,
    cluster: Cluster,
    standings: Standings,
    *,
    metrics: Metrics,
    clock: Clock,
    new_tasks: Callable[[], Tasks],
) -> SendingRules:
    """Return the rules as a service. `standings` must outlive it, and `cluster` that."""
    rules = settings.rules
    rule_metrics = RuleMetrics(metrics.registry)

    def book(cap: int) -> RecipientBook:
        return RecipientBook(
            cap=cap,
            router=cluster.router,
            shard=standings.shard,
            refresh=cluster.refresh,
            clock=clock,
            tasks=new_tasks(),
        )

    return SendingRules(
        countries=Countries(rules.sms_countries),
        quiet=QuietHours(rules, settings.notifications.time_zone),
        spending=Spending(cluster, rules, metrics=rule_metrics, clock=clock, tasks=new_tasks()),
        books={Channel.SMS: book(rules.sms_day_max), Channel.EMAIL: book(rules.email_day_max)},
        recipients=Recipients(cluster, clock=clock),
        metrics=rule_metrics,
        clock=clock,
        tasks=new_tasks(),
    )
