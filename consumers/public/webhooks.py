"""The vendors whose webhooks are taken: those that the settings have a secret of."""

from litestar.handlers import HTTPRouteHandler

from consumers.public.webhook_routes import PublishEvents, webhook_routes
from consumers.web.rate_limits import RateLimits
from consumers.web.requests import Patience
from pipeline.adapters.mapping import load_adapter
from pipeline.adapters.webhook import Webhook
from pipeline.adapters.webhook_signatures import (
    ShopifySignature,
    SquareSignature,
    StripeSignature,
    WebhookSignature,
)
from pipeline.clock import Clock
from pipeline.settings import PublicSettings, Settings, WebhookSettings


def vendor_routes(
    settings: Settings, publish: PublishEvents, clock: Clock, patience: Patience
) -> list[HTTPRouteHandler]:
    """Return the route of vendors' webhooks; none when no vendor is configured."""
    webhooks = settings.webhooks
    vendors = vendor_webhooks(webhooks, settings.public, clock)
    if not vendors:
        return []
    rates = RateLimits(per_s=webhooks.rate_per_s, burst=webhooks.burst, clock=clock)
    return webhook_routes(vendors, rates.take, publish, patience, bytes_max=webhooks.body_bytes_max)


def vendor_webhooks(webhooks: WebhookSettings, public: PublicSettings, clock: Clock) -> dict[str, Webhook]:
    """Return the vendors by the names in their URLs. Raises SettingsError for a mapping that is wrong."""
    square_url = f"{public.base_url}/webhooks/square"
    shopify = (webhooks.shopify_secret, webhooks.shopify_secret_previous)
    stripe = (webhooks.stripe_secret, webhooks.stripe_secret_previous)
    square = (webhooks.square_secret, webhooks.square_secret_previous)
    ways: dict[str, tuple[tuple[str, str], WebhookSignature, str]] = {
        "shopify": (shopify, ShopifySignature(shopify), webhooks.shopify_mapping),
        "stripe": (stripe, StripeSignature(stripe, clock), webhooks.stripe_mapping),
        "square": (square, SquareSignature(square, square_url), webhooks.square_mapping),
    }
    return {
        name: Webhook(name, signature, load_adapter(mapping))
        for name, (secrets, signature, mapping) in ways.items()
        if any(secrets)
    }
