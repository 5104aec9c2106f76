"""What requests are counted as: few words, and never one of the caller's."""

import json

import pytest
from metric_page import ROOT

from consumers.api.services import kind_of

PATHS = json.loads((ROOT / "docs/reference/openapi.json").read_text(encoding="utf-8"))["paths"]


@pytest.mark.parametrize("path", [path for path in PATHS if path != "/v1/overview/stream"])
def test_each_path_is_counted_as_what_follows_the_version(path: str) -> None:
    assert kind_of(path.encode()) == path.split("/")[2]


@pytest.mark.parametrize(("path", "kind"), [
    ("/v1/overview/stream", "stream"), ("/v1/overview", "overview"), ("/v1/overview/other", "overview"),
    ("/console", "console"), ("/console/main.js", "console"), ("/console/orders", "console"),
    ("/consoles", "other"), ("/v1/console", "other"), ("/v2/orders", "other"), ("/orders", "other"),
    ("/v1", "other"), ("/", "other"), ("*", "other"), ("/v1/a-1", "other"), ("/v1/ORDERS", "other"),
])  # fmt: skip
def test_the_rest_is_the_stream_the_console_or_other(path: str, kind: str) -> None:
    assert kind_of(path.encode()) == kind


def test_bytes_that_are_no_text_are_other() -> None:
    assert kind_of(b"/v1/\xff") == "other"
