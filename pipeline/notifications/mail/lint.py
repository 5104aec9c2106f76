"""What is wrong with templates, found when the pipeline starts, and by `postorder templates lint`."""

from collections.abc import Iterable, Iterator
from traceback import walk_tb

from jinja2 import nodes
from jinja2.meta import find_undeclared_variables

from pipeline.errors import RejectedError, SettingsError
from pipeline.notifications.mail.cpu_limit import CpuLimitError, cpu_limit
from pipeline.notifications.mail.html_lint import CANARY, html_problems
from pipeline.notifications.mail.samples import SAMPLE_TO, SAMPLE_URL, sample_claim, sample_variants
from pipeline.notifications.mail.sms_lint import sms_misfits, sms_problems
from pipeline.notifications.mail.templates import PARTS, Templates
from pipeline.notifications.mail.words import COUNTS, FORMS, SETTINGS, VALUES, one_line
from pipeline.settings import SmsSettings
from pipeline.storage.outbox import Kind

_KNOWN = {*VALUES, *COUNTS, *FORMS, *SETTINGS, "lines"}
# These would let a customer's name be more than text.
_UNSAFE_FILTERS = {"safe", "xmlattr", "tojson"}
_RENDERING_CPU_S_MAX = 2.0  # of all variants of one message in one language, which take a hundredth of it
_REASON_CHARS_MAX = 200


def check(templates: Templates) -> None:
    """Raise SettingsError with a line for each problem, which names the file."""
    problems = _problems(templates)
    if problems:
        raise SettingsError(problems)


def lint(templates: Templates, sms: SmsSettings) -> list[str]:
    """Return a line for each problem, and for each SMS that would be shortened."""
    problems = _problems(templates)
    if problems:
        return problems
    try:
        return list(sms_misfits(templates, sms))
    except RejectedError as error:
        return [_told(error)]


def _problems(templates: Templates) -> list[str]:
    problems = [problem for name in templates.names for problem in _source_problems(templates, name)]
    problems += _missing(templates)
    if problems:
        return problems
    for language in templates.languages:
        for kind in Kind:
            try:
                with cpu_limit(_RENDERING_CPU_S_MAX):
                    problems += _rendering_problems(templates, kind, language)
            except RejectedError as error:
                problems.append(_told(error))
                if isinstance(error.__cause__, CpuLimitError):
                    return problems  # the others would take as long
    return list(dict.fromkeys(problems))


def _missing(templates: Templates) -> Iterator[str]:
    """Yield what a language lacks. One of a region (fr-CA) may leave things to its own language (fr)."""
    names = set(templates.names)
    if not templates.locales.has_default:
        wanted, there_are = templates.locales.default, ", ".join(templates.languages)
        yield f"notifications.default_locale: {wanted} has no templates: there are {there_are}"
    for language in templates.languages:
        if not {language, language.partition("-")[0]} & templates.labels.keys():
            yield f"template {language}/invoice.toml: is missing"
        for kind, endings in PARTS.items():
            for ending in endings:
                own = [f"{language}/{kind}{ending}", f"{language.partition('-')[0]}/{kind}{ending}"]
                if names.isdisjoint(own):
                    yield f"template {own[0]}: is missing"


def _source_problems(templates: Templates, name: str) -> Iterator[str]:
    tree = templates.syntax(name)
    for unknown in sorted(find_undeclared_variables(tree) - _KNOWN):
        line = min(node.lineno for node in tree.find_all(nodes.Name) if node.name == unknown)
        choice = ", ".join(sorted(_KNOWN))
        yield f"template {name}, line {line}: {unknown} is no variable: choose from {choice}"
    for found in tree.find_all(nodes.Filter):
        if found.name in _UNSAFE_FILTERS:
            yield f"template {name}, line {found.lineno}: the filter `{found.name}` lets data be markup"
    for scope in tree.find_all(nodes.ScopedEvalContextModifier):
        yield f"template {name}, line {scope.lineno}: escaping cannot be turned off"


def _rendering_problems(templates: Templates, kind: Kind, language: str) -> Iterable[str]:
    """Return what is wrong with a message in a language. Raises RejectedError when it cannot be rendered."""
    if kind is Kind.ORDER_SMS:
        return list(sms_problems(templates, language))
    return list(_mail_problems(templates, kind, language))


def _mail_problems(templates: Templates, kind: Kind, language: str) -> Iterator[str]:
    where = f"template {language}/{kind}"
    empty: dict[str, str] = {}
    for what, claim in sample_variants(kind, language).items():
        mail = templates.read(claim, SAMPLE_URL)
        templates.email(claim, SAMPLE_TO, ())
        for part, text in ((".subject.txt", mail.subject), (".txt", mail.text), (".html", mail.html)):
            if not text.strip():
                empty.setdefault(part, what)
    yield from (f"{where}{part}: is empty (an order that is {what})" for part, what in empty.items())
    canary = templates.read(sample_claim(kind, language, name=CANARY, number=CANARY), SAMPLE_URL)
    yield from (f"{where}.html: {problem}" for problem in html_problems(canary.html))
    lines = templates.subject_lines(sample_claim(kind, language))
    if lines > 1:
        yield f"{where}.subject.txt: must be one line, and has {lines}"


def _told(error: RejectedError) -> str:
    """Return what a rendering failed of, and where. The samples are nobody's, so that may be told."""
    text, cause = str(error).partition(": ")[2], error.__cause__
    if cause is None:
        return f"template {text}"
    name = text.partition(":")[0]
    lines = [line for frame, line in walk_tb(cause.__traceback__) if frame.f_code.co_filename.endswith(name)]
    where = f"template {name}, line {lines[-1]}" if lines else f"template {name}"
    reason = one_line(str(cause))[:_REASON_CHARS_MAX]
    return f"{where}: {type(cause).__name__}: {reason}" if reason else f"{where}: {type(cause).__name__}"
