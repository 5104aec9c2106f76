"""The runbooks of docs/how-to/alerts/, and the commands, expressions and statements that they name."""

import re
from collections.abc import Iterator
from pathlib import Path

from metric_page import ROOT

FOLDER = ROOT / "docs/how-to/alerts"
INDEX = FOLDER / "README.md"
SECTIONS = ["For customers", "Confirm", "Do first", "Over when", "See also"]


def pages() -> dict[str, Path]:
    """Return the runbooks by the name of their alert."""
    return {path.stem: path for path in sorted(FOLDER.glob("*.md")) if path != INDEX}


def _spans(text: str) -> Iterator[str]:
    """Yield the lines of fenced blocks of commands, and what stands in backquotes."""
    fenced = re.findall(r"^ *```(?:sh|sql)\n(.*?)^ *```", text, re.MULTILINE | re.DOTALL)
    for block in fenced:
        yield from (line.strip() for line in block.splitlines())
    yield from re.findall(
        r"`([^`\n]+)`", re.sub(r"^ *```.*?^ *```", "", text, flags=re.MULTILINE | re.DOTALL)
    )


def commands(path: Path) -> list[str]:
    """Return what `postorder` is called with, without comments."""
    spans = (re.split(r"\s+#|\s\|\s", span)[0] for span in _spans(path.read_text(encoding="utf-8")))
    return [span.removeprefix("postorder ") for span in spans if re.match(r"postorder [a-z]", span)]


def expressions(path: Path) -> list[str]:
    """Return what is asked of Prometheus."""
    found = [re.match(r"q '([^']+)'", span) for span in _spans(path.read_text(encoding="utf-8"))]
    return [one[1] for one in found if one]


def statements(path: Path) -> list[str]:
    """Return the SQL that only looks."""
    found = []
    for span in _spans(path.read_text(encoding="utf-8")):
        if re.match(r"sql \w+ ", span):
            found += [one or other for one, other in re.findall(r"-c (?:'([^']+)'|\"([^\"]+)\")", span)]
        elif re.match(r"(SELECT|SHOW) (?!pg_drop|pg_reload)", span):
            found.append(span)
    return found
