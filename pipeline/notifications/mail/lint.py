"""What is wrong with templates, found when the pipeline starts, and by `postorder templates lint`."""

from collections.abc import Iterator
from html.parser import HTMLParser

from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from pipeline.errors import RejectedError, SettingsError
from pipeline.notifications.mail.samples import SAMPLE_TO, SAMPLE_URL, sample_claim, sample_variants
from pipeline.notifications.mail.templates import PARTS, Templates
from pipeline.notifications.mail.words import COUNTS, FORMS, SETTINGS, VALUES
from pipeline.storage.outbox import Kind

_KNOWN = {*VALUES, *COUNTS, *FORMS, *SETTINGS, "lines"}
# These would let a customer's name be more than text.
_UNSAFE_FILTERS = {"safe", "xmlattr", "tojson"}
_CANARY = "Canary<b>&\"'"
_VOID = {"meta", "br", "img", "hr", "link", "input", "col"}


def check(templates: Templates) -> None:
    """Raise SettingsError with a line for each problem, which names the file."""
    problems = lint(templates)
    if problems:
        raise SettingsError(problems)


def lint(templates: Templates) -> list[str]:
    """Return a line for each problem."""
    problems = [problem for name in templates.names for problem in _source_problems(templates, name)]
    problems += _missing(templates)
    if problems:
        return problems
    for language in templates.languages:
        for kind in Kind:
            problems += _rendering_problems(templates, kind, language)
    return problems


def _missing(templates: Templates) -> Iterator[str]:
    """Yield what a language lacks. One of a region (fr-CA) may leave things to its own language (fr)."""
    names = set(templates.names)
    if not templates.locales.chain(None):
        yield "templates: the language of notifications.default_locale has none, and neither has English"
    for language in templates.languages:
        if not {language, language.partition("-")[0]} & templates.labels.keys():
            yield f"template {language}/invoice.toml: is missing"
        for kind, endings in PARTS.items():
            for ending in endings:
                own = [f"{language}/{kind}{ending}", f"{language.partition('-')[0]}/{kind}{ending}"]
                if names.isdisjoint(own):
                    yield f"template {own[0]}: is missing"


def _source_problems(templates: Templates, name: str) -> Iterator[str]:
    environment = templates.environment
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, name)
    tree = environment.parse(source, name)
    for unknown in sorted(find_undeclared_variables(tree) - _KNOWN):
        yield f"template {name}: {unknown} is no variable: choose from {', '.join(sorted(_KNOWN))}"
    for found in tree.find_all(nodes.Filter):
        if found.name in _UNSAFE_FILTERS:
            yield f"template {name}, line {found.lineno}: the filter `{found.name}` lets data be markup"
    for scope in tree.find_all(nodes.ScopedEvalContextModifier):
        yield f"template {name}, line {scope.lineno}: escaping cannot be turned off"


def _rendering_problems(templates: Templates, kind: Kind, language: str) -> Iterator[str]:
    where = f"template {language}/{kind}"
    if kind is Kind.ORDER_SMS:
        try:
            sms = templates.sms(sample_claim(kind, language), "+14155550123")
        except RejectedError as error:
            yield f"{where}: {error}"
        else:
            if not sms.body:
                yield f"{where}.txt: is empty"
        return
    for what, claim in sample_variants(kind, language).items():
        try:
            mail = templates.read(claim, SAMPLE_URL)
            templates.email(claim, SAMPLE_TO, ())
        except RejectedError as error:
            yield f"{where}, {what}: {error}"
            return
        if not mail.subject or not mail.text.strip():
            yield f"{where}, {what}: subject or text is empty"
    canary = templates.read(sample_claim(kind, language, name=_CANARY, number=_CANARY), SAMPLE_URL)
    yield from (f"{where}.html: {problem}" for problem in html_problems(canary.html))
    lines = templates.subject_lines(sample_claim(kind, language))
    if lines != 1:
        yield f"{where}.subject.txt: must be one line, and has {lines}"


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
