"""Settings of vendors' webhooks: shops and payment services that send orders and invoices themselves."""

from typing import Annotated

import msgspec
from msgspec import Meta

from pipeline.settings.kinds import Count, Seconds, about


class WebhookSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Vendors' webhooks, at `/webhooks/VENDOR` of the public listener. Each needs its secret."""

    shopify_secret: Annotated[str, about("a secret: the client secret of the Shopify app")] = ""
    shopify_secret_previous: Annotated[str, about("a secret: the one before, still accepted")] = ""
    shopify_mapping: Annotated[
        str, about("`shopify`, or a mapping file of your own (TOML) for its documents")
    ] = "shopify"
    stripe_secret: Annotated[str, about("a secret: Stripe's signing secret of this endpoint, `whsec_…`")] = ""
    stripe_secret_previous: Annotated[str, about("a secret: the one before, still accepted")] = ""
    stripe_mapping: Annotated[str, about("`stripe`, or a mapping file of your own")] = "stripe"
    square_secret: Annotated[str, about("a secret: Square's signature key of this subscription")] = ""
    square_secret_previous: Annotated[str, about("a secret: the one before, still accepted")] = ""
    square_mapping: Annotated[str, about("`square`, or a mapping file of your own")] = "square"
    body_bytes_max: Annotated[Annotated[int, Meta(ge=1, le=32 * 2**20)], about("a webhook's body")] = (
        1_048_576
    )
    publishes_max: Annotated[
        Count, about("webhooks that wait for the broker's confirm at most; then 503")
    ] = 100
    publish_timeout_s: Annotated[
        Seconds, about("without the broker's confirm in this time, 503: vendors wait for 5 to 10 s")
    ] = 3.0
    rate_per_s: Annotated[
        Annotated[float, Meta(gt=0, le=1_000_000)],
        about("genuine webhooks in a second from one vendor, through one process; then 429"),
    ] = 200.0
    burst: Annotated[Count, about("and so many at once besides")] = 400
