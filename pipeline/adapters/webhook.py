"""A vendor's webhook: what proves that it is the vendor's, and which events it makes."""

from collections.abc import Mapping
from typing import NamedTuple

from pipeline.adapters.mapping import Adapted, Adapter
from pipeline.adapters.webhook_signatures import WebhookSignature
from pipeline.events import Reason


class Taken(NamedTuple):
    """What a genuine request holds: events, and of each record of a kind that is not taken, why it is not.

    `passed_over` repeats nothing of a request but a kind of document that looks like one: `refunds/create`.
    """

    events: list[Adapted]
    passed_over: list[str]


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

    def taken(self, headers: Mapping[str, str], body: bytes) -> Taken:
        """Return the events of a genuine request; none for kinds of documents that are not taken.

        Raises EventError for one that should make an event and does not: then none of its events counts.
        """
        taken = Taken([], [])
        for adapted in self._adapter.adapt_each(body, headers):
            if adapted.problem is None:
                taken.events.append(adapted)
            elif adapted.problem.reason != Reason.UNKNOWN_TYPE:
                raise adapted.problem
            else:
                taken.passed_over.append(adapted.problem.detail)
        return taken
