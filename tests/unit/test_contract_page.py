"""The contract's page names what there is, and its examples run."""

import re
import sys
from types import SimpleNamespace
from typing import Any

from deliveries import delivery
from published_contract import EXAMPLES, REFERENCE, ROOT, TYPES, members

from consumers import topology
from pipeline.events import Reason
from pipeline.ingest.content_mode import BATCH_TYPE, JSON_TYPE, STRUCTURED_TYPE

PAGE = (REFERENCE / "events.md").read_text(encoding="utf-8")


def test_the_page_names_every_reason() -> None:
    section = PAGE.partition("## Reasons for quarantine")[2].partition("\n## ")[0]
    assert re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE) == list(Reason)


def test_the_page_links_to_files_that_are_there() -> None:
    for target in re.findall(r"\]\((?!https:)([^)#]+)\)", PAGE):
        assert (REFERENCE / target).exists(), target


class Pika(SimpleNamespace):
    """What the page's examples use of pika. Keeps what is published."""

    def __init__(self) -> None:
        super().__init__(published=[])

    def URLParameters(self, url: str) -> str:  # noqa: N802  # pika's name
        return url

    def BlockingConnection(self, _parameters: str) -> SimpleNamespace:  # noqa: N802  # pika's name
        channel = SimpleNamespace(confirm_delivery=lambda: None, basic_publish=self.basic_publish)
        return SimpleNamespace(channel=lambda: channel)

    def BasicProperties(self, **properties: Any) -> dict:  # noqa: N802  # pika's name
        return properties

    def basic_publish(
        self, exchange: str, routing_key: str, body: str, properties: dict, *, mandatory: bool
    ) -> None:
        assert exchange == topology.EXCHANGE
        assert properties.pop("delivery_mode") == 2
        assert mandatory
        content_type, headers = properties.pop("content_type"), properties.pop("headers", {})
        assert not properties
        self.published.append(delivery(body.encode(), content_type, routing_key=routing_key, headers=headers))


def test_the_examples_of_the_page_are_taken(monkeypatch) -> None:
    pika = Pika()
    monkeypatch.setitem(sys.modules, "pika", pika)
    monkeypatch.chdir(ROOT)
    exec("\n".join(re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)), {})  # as a reader would run it
    taken = [[decoded.event.id for decoded in members(sent)] for sent in pika.published]
    order, invoice, _ = (EXAMPLES[event_type]["id"] for event_type in TYPES)
    assert taken == [[order], [order], [order, invoice], [order], ["order-1001-processed"]]
    content_types = [sent.content_type for sent in pika.published]
    assert content_types == [STRUCTURED_TYPE, STRUCTURED_TYPE, BATCH_TYPE, JSON_TYPE, JSON_TYPE]
