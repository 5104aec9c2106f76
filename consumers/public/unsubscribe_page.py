"""The page for unsubscribing: rendered once for each language and step, when the listener starts."""

import tomllib
from base64 import b64encode
from hashlib import sha256
from importlib.resources import files
from typing import Any, Final, Literal

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

Step = Literal["ask", "done", "wrong"]
_STEPS: Final[tuple[Step, ...]] = ("ask", "done", "wrong")
_FALLBACK: Final = "en"
_RANGES_MAX: Final = 20


class UnsubscribePage:
    """The page in every language it is there in. `security_policy` belongs to each answer that shows it."""

    def __init__(self, shop: str) -> None:
        folder = files("consumers.public").joinpath("pages")
        style = folder.joinpath("unsubscribe.css").read_text(encoding="utf-8")
        texts = tomllib.loads(folder.joinpath("unsubscribe.toml").read_text(encoding="utf-8"))
        template = Environment(autoescape=True, undefined=StrictUndefined).from_string(
            folder.joinpath("unsubscribe.html").read_text(encoding="utf-8")
        )
        self.languages = tuple(texts)
        self._pages = {
            (language, step): template.render(
                language=language,
                step=step,
                shop=shop,
                style=Markup(style),  # noqa: S704  # our own file
                text={key: text.replace("{shop}", shop) for key, text in texts[language].items()},
            )
            for language in texts
            for step in _STEPS
        }
        digest = b64encode(sha256(style.encode()).digest()).decode()
        self.security_policy = (
            f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
            "frame-ancestors 'none'; base-uri 'none'"
        )

    def page(self, step: Step, accept_language: str) -> tuple[str, str]:
        """Return a language the reader accepts, and the page in it."""
        language = preferred_language(accept_language, self.languages)
        return language, self._pages[language, step]


def preferred_language(accept_language: str, languages: tuple[str, ...]) -> str:
    """Return the language that an Accept-Language header likes best, or English (RFC 9110, 12.5.4)."""
    wanted: list[tuple[float, str]] = []
    for part in accept_language[:500].split(",")[:_RANGES_MAX]:
        tag, _, weight = part.partition(";")
        language = tag.strip().lower().partition("-")[0]
        if language in languages and (quality := _quality(weight)) > 0:
            wanted.append((quality, language))
    return max(wanted, key=_by_quality)[1] if wanted else _FALLBACK  # the first of equals


def _by_quality(one: tuple[float, Any]) -> float:
    return one[0]


def _quality(weight: str) -> float:
    name, _, value = weight.strip().partition("=")
    if not name:
        return 1.0
    try:
        return float(value) if name.strip() == "q" and len(value) <= 5 else 0.0  # noqa: PLR2004  # q=0.123
    except ValueError:
        return 0.0
