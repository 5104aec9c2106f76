"""Settings: one TOML file, environment variables over it, every limit finite.

A key KEY of section SECTION can be overridden by the environment variable POSTORDER_SECTION_KEY. Secrets
(keys marked so below) are never read from the TOML file itself: they come from the environment or from a
file named by `KEY_file`. A shard's password comes from POSTORDER_SHARD_NAME_PASSWORD or `password_file`.
"""

from pipeline.settings.allocator import AllocatorSettings
from pipeline.settings.api import ApiSettings
from pipeline.settings.effects import EffectSettings
from pipeline.settings.email import EmailSettings
from pipeline.settings.intake import AmqpSettings, IntakeSettings
from pipeline.settings.notifications import (
    DocumentSettings,
    NotificationSettings,
)
from pipeline.settings.ops import OpsSettings
from pipeline.settings.pools import PoolSettings, SlotSettings
from pipeline.settings.public import PublicSettings
from pipeline.settings.reading import ENVIRONMENT_PREFIX, load_settings
from pipeline.settings.rules import RuleSettings
from pipeline.settings.sections import SECRETS, SECTIONS, Settings
from pipeline.settings.sms import SmsSettings
from pipeline.settings.storage import ReadSettings, RetentionSettings, ShardSettings, StorageSettings
from pipeline.settings.traces import TraceSettings
from pipeline.settings.webhooks import WebhookSettings

__all__ = [
    "ENVIRONMENT_PREFIX",
    "SECRETS",
    "SECTIONS",
    "AllocatorSettings",
    "AmqpSettings",
    "ApiSettings",
    "DocumentSettings",
    "EffectSettings",
    "EmailSettings",
    "IntakeSettings",
    "NotificationSettings",
    "OpsSettings",
    "PoolSettings",
    "PublicSettings",
    "ReadSettings",
    "RetentionSettings",
    "RuleSettings",
    "Settings",
    "ShardSettings",
    "SlotSettings",
    "SmsSettings",
    "StorageSettings",
    "TraceSettings",
    "WebhookSettings",
    "load_settings",
]
