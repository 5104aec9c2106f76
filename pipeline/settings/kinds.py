"""The kinds of values that settings have."""

from typing import Annotated

from msgspec import Meta

Seconds = Annotated[float, Meta(gt=0, le=86_400 * 30)]
Count = Annotated[int, Meta(ge=1, le=1_000_000)]
Port = Annotated[int, Meta(ge=0, le=65_535)]


def about(description: str) -> Meta:
    """Describe a key, for the page of settings."""
    return Meta(description=description)
