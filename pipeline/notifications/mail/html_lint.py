"""What is wrong with the HTML of a mail: what is left open, is no place for data, has no place in a mail."""

from html.parser import HTMLParser

CANARY = "Canary<b>&\"'"  # what a customer wrote, in whatever field
_VOID = {"meta", "br", "img", "hr", "link", "input", "col"}


def html_problems(html: str) -> list[str]:
    """Return what is wrong with a mail's HTML, rendered with a name that is a canary."""
    reader = _Reader()
    reader.feed(html)
    reader.close()
    return list(dict.fromkeys(reader.problems + reader.left_open()))


class _Reader(HTMLParser):
    """Follows the elements of a mail."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.problems: list[str] = []
        self._open: list[str] = []
        self._tables: list[bool] = []  # whether each open one is layout

    def left_open(self) -> list[str]:
        return [f"<{tag}> is not closed" for tag in self._open if tag not in ("p", "li")]

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        values = dict(attributes)
        if tag not in _VOID:
            self._open.append(tag)
        if tag in ("script", "iframe", "object", "form", "base"):
            self.problems.append(f"<{tag}> has no place in a mail")
        if tag == "html" and not (values.get("lang") and values.get("dir")):
            self.problems.append("<html> needs lang and dir")
        if tag == "img" and values.get("alt") is None:
            self.problems.append("<img> needs alt")
        if tag == "table":
            self._tables.append(values.get("role") == "presentation")
        if tag == "th" and self._tables[-1:] == [True]:
            self.problems.append("<table role=presentation> has no headings: leave the role to layout")
        for name, value in attributes:
            self._attribute(tag, name, value or "")

    def _attribute(self, tag: str, name: str, value: str) -> None:
        if name.startswith("on"):
            self.problems.append(f"<{tag} {name}>: scripts have no place in a mail")
        if "Canary" in value and name not in ("alt", "title", "aria-label"):
            self.problems.append(
                f"<{tag} {name}>: what a customer wrote may be text, or alt, title, aria-label"
            )
        if name in ("href", "src") and not value.startswith(("https://", "mailto:", "cid:")):
            self.problems.append(f"<{tag} {name}>: must begin with https:, mailto: or cid:")

    def handle_endtag(self, tag: str) -> None:
        if tag == "table" and self._tables:
            self._tables.pop()
        if tag in self._open:
            while self._open.pop() != tag:
                pass
        else:
            self.problems.append(f"</{tag}> closes nothing")

    def handle_data(self, data: str) -> None:
        if "Canary" in data and self._open and self._open[-1] in ("style", "script"):
            self.problems.append(f"<{self._open[-1]}>: nothing a customer wrote may be in it")
