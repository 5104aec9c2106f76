"""The descriptions of the API and the public listener are what the code says, and are valid ones."""

import json

import pytest
from api_description import REFERENCE, render


@pytest.mark.parametrize("name", ["openapi.json", "public-openapi.json", "api.md"])
def test_a_page_is_up_to_date(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == render()[REFERENCE / name], "run `make docs`"


def test_every_operation_says_what_it_does_and_how_it_fails() -> None:
    schema = json.loads((REFERENCE / "openapi.json").read_text(encoding="utf-8"))
    assert schema["openapi"].startswith("3.1")
    ids = [operation["operationId"] for item in schema["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))
    for path, item in schema["paths"].items():
        for method, operation in item.items():
            assert operation["description"].endswith("."), (method, path)
            failures = {status for status in operation["responses"] if int(status) >= 400}
            assert failures >= {"400", "401", "403", "429", "503"}, (method, path)
            for status in failures:
                assert list(operation["responses"][status]["content"]) == ["application/problem+json"]
            for parameter in operation.get("parameters", []):
                assert parameter["in"] in {"path", "query"}
