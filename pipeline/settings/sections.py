"""All settings together: one section per struct."""

from typing import get_type_hints

import msgspec

from pipeline.settings.email import EmailSettings
from pipeline.settings.intake import AmqpSettings, IntakeSettings
from pipeline.settings.notifications import (
    DocumentSettings,
    NotificationSettings,
    SmsSettings,
)
from pipeline.settings.ops import OpsSettings
from pipeline.settings.public import PublicSettings
from pipeline.settings.storage import ReadSettings, RetentionSettings, ShardSettings, StorageSettings


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything, one section per struct."""

    shards: tuple[ShardSettings, ...]
    amqp: AmqpSettings = AmqpSettings()
    storage: StorageSettings = StorageSettings()
    intake: IntakeSettings = IntakeSettings()
    notifications: NotificationSettings = NotificationSettings()
    reads: ReadSettings = ReadSettings()
    retention: RetentionSettings = RetentionSettings()
    sms: SmsSettings = SmsSettings()
    email: EmailSettings = EmailSettings()
    documents: DocumentSettings = DocumentSettings()
    public: PublicSettings = PublicSettings()
    ops: OpsSettings = OpsSettings()


SECRETS = {
    "password",
    "auth_token",
    "dkim_key",
    "secret",
    "secret_previous",
    "bounce_secret",
    "bounce_secret_previous",
    "twilio_token_other",
}
PRIVATE_KEYS = {"dkim_key"}  # secrets whose file must be readable by its owner alone
SECTIONS: dict[str, type[msgspec.Struct]] = {
    name: hint for name, hint in get_type_hints(Settings).items() if name != "shards"
}
