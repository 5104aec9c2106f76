"""A shard: a primary, a replica, and what can be done on them."""

from pipeline.settings import NotificationSettings, ShardSettings, StorageSettings
from pipeline.storage.audit import AuditTable
from pipeline.storage.control import ControlTable
from pipeline.storage.effects import Effects
from pipeline.storage.map_table import MapTable
from pipeline.storage.node import Node
from pipeline.storage.outbox_table import Outbox
from pipeline.storage.reader import ShardReader
from pipeline.storage.recipients import RecipientTable
from pipeline.storage.spend import SpendTable
from pipeline.storage.writer import IntakeWriter


class Shard:
    """One shard of the cluster. Opening it opens its primary; the replica is opened when first read."""

    def __init__(
        self, settings: ShardSettings, storage: StorageSettings, notifications: NotificationSettings
    ) -> None:
        self.name = settings.name
        self.settings = settings
        self.primary = Node(f"{settings.name} primary", settings.primary, settings.password, storage)
        self.replica = (
            Node(f"{settings.name} replica", settings.replica, settings.password, storage)
            if settings.replica
            else None
        )
        lifetime_s = notifications.message_lifetime_s
        self.writer = IntakeWriter(
            self.primary, grace_window_s=notifications.grace_window_s, message_lifetime_s=lifetime_s
        )
        self.outbox = Outbox(settings.name, self.primary, lease_s=notifications.lease_s)
        self.effects = Effects(settings.name, self.primary, message_lifetime_s=lifetime_s)
        self.reader = ShardReader(self.primary)
        self.maps = MapTable(self.primary)
        self.recipients = RecipientTable(self.primary)
        self.spend = SpendTable(self.primary)
        self.control = ControlTable(self.primary)
        self.audit = AuditTable(self.primary)

    def __repr__(self) -> str:
        return f"Shard({self.name}: {self.primary!r})"

    async def close(self) -> None:
        """Close both pools."""
        await self.primary.close()
        if self.replica:
            await self.replica.close()
