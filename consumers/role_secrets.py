"""Which secrets each role uses. A process keeps no other: what it does not hold cannot be taken from it."""

from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from consumers.roles import Role
from pipeline.settings import SECRETS, Settings

_EVERYWHERE: Final = frozenset({"shards.password", "traces.authorization"})
_BROKER: Final = frozenset({"amqp.password"})
_TWILIO: Final = frozenset({"sms.auth_token", "sms_second.auth_token"})
_INTAKE: Final = _EVERYWHERE | _BROKER

SECRETS_OF: Final[Mapping[Role, frozenset[str]]] = {
    Role.ORDERS: _INTAKE,
    Role.INVOICES: _INTAKE,
    Role.CUSTOMERS: _INTAKE,
    # Sends by what the shards say, and not by the broker; the links that it gives out are signed.
    Role.NOTIFICATIONS: _EVERYWHERE
    | _TWILIO
    | {
        "email.password",
        "email.dkim_key",
        "email_second.password",
        "email_second.dkim_key",
        "public.secret",
    },
    # Twilio signs its callbacks with the token. What shops send is published.
    Role.PUBLIC: _EVERYWHERE
    | _BROKER
    | _TWILIO
    | {
        "public.secret",
        "public.secret_previous",
        "public.bounce_secret",
        "public.bounce_secret_previous",
        "public.twilio_token_other",
        "webhooks.shopify_secret",
        "webhooks.shopify_secret_previous",
        "webhooks.stripe_secret",
        "webhooks.stripe_secret_previous",
        "webhooks.square_secret",
        "webhooks.square_secret_previous",
    },
    Role.API: _EVERYWHERE | _BROKER | {"api.secret", "api.secret_previous"},  # quarantine is redriven
}
"""SECTION.KEY of each secret; a shard's is `shards.password`."""


def with_secrets_of(settings: Settings, roles: frozenset[Role]) -> Settings:
    """Return the settings without the secrets that none of these roles uses."""
    kept = frozenset[str]().union(*(SECRETS_OF[role] for role in roles))
    changed = {}
    for name in settings.__struct_fields__:
        section = getattr(settings, name)
        dropped = {
            key: ""
            for key in getattr(section, "__struct_fields__", ())
            if key in SECRETS and f"{name}.{key}" not in kept
        }
        if dropped:
            changed[name] = replace(section, **dropped)
    return replace(settings, **changed)
