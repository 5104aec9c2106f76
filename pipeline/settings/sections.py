"""All settings together: one section per struct."""

from types import UnionType
from typing import Any, get_args, get_type_hints

import msgspec

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
from pipeline.settings.pools import PoolSettings
from pipeline.settings.public import PublicSettings
from pipeline.settings.rules import RuleSettings
from pipeline.settings.sms import SmsSettings
from pipeline.settings.storage import ReadSettings, RetentionSettings, ShardSettings, StorageSettings
from pipeline.settings.traces import TraceSettings
from pipeline.settings.webhooks import WebhookSettings


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything, one section per struct."""

    shards: tuple[ShardSettings, ...]
    amqp: AmqpSettings = AmqpSettings()
    storage: StorageSettings = StorageSettings()
    intake: IntakeSettings = IntakeSettings()
    notifications: NotificationSettings = NotificationSettings()
    reads: ReadSettings = ReadSettings()
    retention: RetentionSettings = RetentionSettings()
    pools: PoolSettings = PoolSettings()
    sms: SmsSettings = SmsSettings()
    sms_second: SmsSettings | None = None
    email: EmailSettings = EmailSettings()
    email_second: EmailSettings | None = None
    documents: DocumentSettings = DocumentSettings()
    effects: EffectSettings = EffectSettings()
    rules: RuleSettings = RuleSettings()
    public: PublicSettings = PublicSettings()
    webhooks: WebhookSettings = WebhookSettings()
    api: ApiSettings = ApiSettings()
    ops: OpsSettings = OpsSettings()
    allocator: AllocatorSettings = AllocatorSettings()
    traces: TraceSettings = TraceSettings()


SECRETS = {
    "password",
    "auth_token",
    "dkim_key",
    "secret",
    "secret_previous",
    "bounce_secret",
    "bounce_secret_previous",
    "twilio_token_other",
    "authorization",
    "shopify_secret",
    "shopify_secret_previous",
    "stripe_secret",
    "stripe_secret_previous",
    "square_secret",
    "square_secret_previous",
}
# Secrets whose file must not be for everybody. For a group it may: so Kubernetes and systemd hand files over.
PRIVATE_KEYS = {"dkim_key"}


def _struct(hint: Any) -> Any:
    return get_args(hint)[0] if isinstance(hint, UnionType) else hint


_HINTS = {name: hint for name, hint in get_type_hints(Settings).items() if name != "shards"}
SECTIONS: dict[str, type[msgspec.Struct]] = {name: _struct(hint) for name, hint in _HINTS.items()}
OPTIONAL = {name for name, hint in _HINTS.items() if isinstance(hint, UnionType)}  # None unless there
NEEDED = {"email_second": ("host",)}  # keys without a default there: a second relay is not the first one's
