"""Every line that is logged has a dotted name, and no key that personal data belong under."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = {"debug", "info", "warning", "error", "exception", "critical"}
PERSONAL = {
    "name",
    "customer",
    "customer_name",
    "first_name",
    "last_name",
    "email",
    "mail",
    "phone",
    "number",
    "to",
    "sender",
    "recipient",
    "address",
    "street",
    "city",
    "postcode",
    "text",
    "body",
    "content",
    "message",
    "subject",
    "title",
    "html",
    "line",
    "lines",
    "payload",
    "data",
    "value",
    "values",
    "row",
    "headers",
    "url",
    "link",
    "token",
    "password",
    "secret",
    "dsn",
}
FILES = sorted(path for room in ("pipeline", "consumers", "loadtest") for path in (ROOT / room).rglob("*.py"))


def logged(source: str) -> Iterator[ast.Call]:
    """Every call of a method of `log`, or of a logger made on the spot."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            owner = node.func.value
            is_logger = isinstance(owner, ast.Name) and owner.id == "log"
            is_made = isinstance(owner, ast.Call) and ast.unparse(owner.func).endswith("get_logger")
            if is_logger or is_made:
                yield node


def is_dotted(event: str) -> bool:
    parts = event.split(".")
    return len(parts) >= 2 and all(part.replace("_", "").isalnum() and part.islower() for part in parts)


def wrong(source: str) -> list[str]:
    found = []
    for call in logged(source):
        where = f"line {call.lineno}"
        event = call.args[0] if call.args else None
        if len(call.args) != 1 or not isinstance(event, ast.Constant) or not is_dotted(str(event.value)):
            found.append(f"{where}: an event's name is one constant such as 'shard.away'")
        found += [f"{where}: {key.arg}" for key in call.keywords if key.arg in PERSONAL]
    return found


def test_files_are_found() -> None:
    calls = sum(1 for path in FILES for _ in logged(path.read_text()))
    assert calls > 80


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_lines_have_dotted_names_and_no_personal_data(path: Path) -> None:
    assert wrong(path.read_text()) == []


@pytest.mark.parametrize(
    "line",
    [
        "log.info('started')",
        "log.info(f'shard.{name}')",
        "log.warning('shard.away', 'shard0')",
        "log.error('Shard.Away')",
        "log.info('mail.sent', to=address)",
        "log.info('mail.sent', effect_id=1, phone=claim.phone)",
        "structlog.get_logger(__name__).critical('crashed')",
    ],
)
def test_what_is_wrong_is_found(line: str) -> None:
    assert wrong(line) != []


def test_what_is_right_is_let_pass() -> None:
    assert wrong("log.info('mail.sent', effect_id=one.hex, **counts)\nlogging.info('x')") == []
