"""A vendor's webhook: what proves that it is the vendor's, and which events it makes."""

from collections.abc import Mapping

from pipeline.adapters.mapping import Adapted, Adapter
from pipeline.adapters.webhook_signatures import WebhookSignature
from pipeline.events import Reason


class Webhook:
    """One vendor."""

    def __init__(self, name: str, signature: WebhookSignature, adapter: Adapter) -> None:
        self.name = name
        self._signature = signature
        self._adapter = adapter

    def __repr__(self) -> str:
        return f"Webhook({self.name}: {self._adapter!r})"

    def is_genuine(self, headers: Mapping[str, str], body: bytes) -> bool:
        """Tell whether a request is the vendor's. `headers`: by their names in small letters."""
        return self._signature.is_genuine(headers, body)

    def events(self, headers: Mapping[str, str], body: bytes) -> list[Adapted]:
        """Return the events of a genuine request; none for kinds of documents that are not taken.

        Raises EventError for one that should make an event and does not: then none of its events counts.
        """
        events = []
        for adapted in self._adapter.adapt_each(body, headers):
            if adapted.problem is None:
                events.append(adapted)
            elif adapted.problem.reason != Reason.UNKNOWN_TYPE:
                raise adapted.problem
        return events
