"""What is counted of the shards themselves."""

from pipeline.observability.registry import MetricRegistry


class ShardMetrics:
    """Pairs, connections to them, the map, and whether the tables add up."""

    def __init__(self, registry: MetricRegistry) -> None:
        registry.section("Shards")
        self.primary_up = registry.gauge(
            "postorder_primary_up",
            "1 if the primary answered, and takes writes, when last looked at",
            "shard",
        )
        self.replicas = registry.gauge("postorder_replicas", "Replicas that follow the primary", "shard")
        self.replicas_synchronous = registry.gauge(
            "postorder_replicas_synchronous", "Of these, those that commits wait for", "shard"
        )
        self.replica_lag_bytes = registry.gauge(
            "postorder_replica_lag_bytes",
            "WAL that the replica furthest behind has not replayed",
            "shard",
        )
        self.replica_lag_seconds = registry.gauge(
            "postorder_replica_lag_seconds",
            "How long the replica furthest behind takes to replay a commit",
            "shard",
        )
        self.connections = registry.gauge(
            "postorder_connections",
            "Connections of this process: primary, replica; used, idle",
            "shard",
            "server",
            "state",
        )
        self.connections_max = registry.gauge(
            "postorder_connections_max", "Connections of this process at most", "shard", "server"
        )
        self._make_contents(registry)

    def _make_contents(self, registry: MetricRegistry) -> None:
        self.slots_owned = registry.gauge(
            "postorder_slots_owned", "Slots that are a shard's by the map in force here", "shard"
        )
        self.slots_leaving = registry.gauge(
            "postorder_slots_leaving",
            "Slots that take no writes because they are being handed over, half a minute ago at most",
            "shard",
        )
        self.map_epoch = registry.gauge("postorder_map_epoch", "The epoch of the map in force here")
        self.quarantine_held = registry.gauge(
            "postorder_quarantine_held", "Deliveries in quarantine that nobody has dealt with", "shard"
        )
        self.ledger_difference = registry.gauge(
            "postorder_ledger_difference",
            "What is missing in the tables: events, effects; 0 when all is well",
            "ledger",
        )
        self.ledger_checked = registry.gauge(
            "postorder_ledger_checked_timestamp_seconds",
            "When that was counted last, by the clock of the process that counts",
        )
        self.ledger_check_interval = registry.gauge(
            "postorder_ledger_check_interval_seconds",
            "How often this process has it counted, by itself or by another one; 0: never",
        )
