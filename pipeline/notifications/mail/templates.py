"""The texts of messages, from the files in message_templates/. Event data is data here, never a template."""

import re
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import msgspec
from jinja2 import Template, TemplateError, nodes
from jinja2.meta import find_referenced_templates

from pipeline.errors import RejectedError
from pipeline.notifications.mail.invoice import Invoice, InvoiceLabels
from pipeline.notifications.mail.locales import Locales, Style
from pipeline.notifications.mail.mime import alternatives
from pipeline.notifications.mail.plain_lines import folded
from pipeline.notifications.mail.quoted_printable import Piece, encode, encode_piece
from pipeline.notifications.mail.sandbox import RENDERED_CHARS_MAX
from pipeline.notifications.mail.skeleton import Skeleton, encoded_values, marked, writes_values_only
from pipeline.notifications.mail.template_files import (
    SHIPPED,
    compiled,
    environment_of,
    file_names,
    read_labels,
)
from pipeline.notifications.mail.words import Words, invoice_of, one_line, sms_words_of, words_of
from pipeline.notifications.notification import Attachment, Email, Sms
from pipeline.settings import NotificationSettings
from pipeline.storage.outbox import Claim, InvoiceDocument, Kind

SUBJECT_CHARS_MAX = 200
_SHAPES_MAX = 256  # skeletons kept of one template, a few kB each
PARTS = {
    Kind.ORDER_SMS: (".txt",),
    Kind.ORDER_EMAIL: (".subject.txt", ".txt", ".html"),
    Kind.INVOICE_EMAIL: (".subject.txt", ".txt", ".html"),
}
_NAME = re.compile(
    rf"(?P<language>[A-Za-z]{{2,3}}(?:-[A-Za-z0-9]{{2,8}})*)/(?:{'|'.join(Kind)})(?:\.subject)?\.(?:txt|html)"
).fullmatch
# What a template can raise. The environment keeps it from everything worse.
_FAILURES = (
    TemplateError,
    ArithmeticError,
    AttributeError,
    LookupError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


class Rendered(msgspec.Struct, frozen=True):
    """A mail as its reader sees it."""

    subject: str
    text: str
    html: str


class _Part:
    """One template of a message, and its skeletons by shape."""

    def __init__(self, template: Template, *, is_plain: bool) -> None:
        self._template = template
        self._is_plain = is_plain
        self._skeletons: dict[tuple[Any, ...], Skeleton] = {}

    @property
    def has_skeletons(self) -> bool:
        """Whether it is rendered once per shape, and not for every message."""
        return self._is_plain

    def text(self, words: Words, shape: tuple[Any, ...]) -> str:
        skeleton = self._skeleton(words, shape)
        return skeleton.text(words.values) if skeleton else self.render(words)

    def encoded(self, words: Words, shape: tuple[Any, ...], values: list[Piece]) -> bytes:
        skeleton = self._skeleton(words, shape)
        return skeleton.encoded(values) if skeleton else encode(self.render(words))

    def _skeleton(self, words: Words, shape: tuple[Any, ...]) -> Skeleton | None:
        skeleton = self._skeletons.get(shape)
        if skeleton is None and self._is_plain:
            if len(self._skeletons) >= _SHAPES_MAX:
                self._skeletons.clear()
            skeleton = Skeleton(self.render(marked(words)))
            self._skeletons[shape] = skeleton
        return skeleton

    def render(self, words: Words) -> str:
        """Render by Jinja. Raises RejectedError when the template fails or does not come to an end."""
        pieces, size = [], 0
        try:
            for piece in self._template.generate(words.variables()):
                size += len(piece)
                if size > RENDERED_CHARS_MAX:
                    raise RejectedError(
                        "template", f"{self._template.name}: over {RENDERED_CHARS_MAX} characters"
                    )
                pieces.append(piece)
        except _FAILURES as error:
            # Its text may quote a value, so only its kind is told.
            raise RejectedError("template", f"{self._template.name}: {type(error).__name__}") from error
        return "".join(pieces)


class Templates:
    """Renders claims into messages.

    Templates of `folder` take the place of those shipped. All are read and compiled here, so that none
    changes while the process runs. Raises SettingsError naming each file that is no template.
    """

    def __init__(
        self, *, shop: str, folder: Path | None = None, default_locale: str = "en", time_zone: str = "UTC"
    ) -> None:
        self._shop = shop
        self._zone = ZoneInfo(time_zone)
        self.environment = environment_of(folder)
        self._templates = compiled(self.environment)
        languages = {found["language"] for name in self._templates if (found := _NAME(name))}
        self.locales = Locales(languages, default_locale)
        self._parts = {name: self._part_of(name) for name in self._templates if _NAME(name)}
        self.labels = read_labels(self.environment, languages)
        self._found: dict[tuple[str, Kind, str], _Part] = {}

    @property
    def names(self) -> list[str]:
        """The names of all templates."""
        return sorted(self._templates)

    @property
    def languages(self) -> list[str]:
        """The languages that have templates."""
        return sorted({found["language"] for name in self._templates if (found := _NAME(name))})

    @property
    def unused(self) -> list[str]:
        """The names of files that no message and no template asks for: misspelt ones, most likely."""
        asked_for = {
            str(asked).removeprefix(f"{SHIPPED}/")
            for name in self._templates
            for asked in find_referenced_templates(self.syntax(name))
        }
        words = {f"{language}/invoice.toml" for language in self.labels}
        used = self._parts.keys() | asked_for | words
        return [name for name in file_names(self.environment) if name not in used]

    def syntax(self, name: str) -> nodes.Template:
        """Return the syntax tree of a template."""
        assert self.environment.loader is not None
        source, _, _ = self.environment.loader.get_source(self.environment, name)
        return self.environment.parse(source, name)

    @property
    def rendered_each_time(self) -> list[str]:
        """The names of templates that do more with values than write them, which costs a mail 200 µs."""
        return sorted(name for name, part in self._parts.items() if not part.has_skeletons)

    def sms(self, claim: Claim, to: str) -> Sms:
        """Render an SMS. Raises RejectedError when its template fails."""
        style = self.locales.find(claim.locale)
        words = sms_words_of(claim, style, shop=self._shop, zone=self._zone)
        body = self._part(style, Kind.ORDER_SMS, ".txt").text(words, words.shape)
        return Sms(effect_id=claim.effect_id.hex, to=to, body=one_line(body))

    def email(
        self, claim: Claim, to: str, attachments: tuple[Attachment, ...], unsubscribe_url: str | None = None
    ) -> Email:
        """Render a mail, encoded. Raises RejectedError when its template fails."""
        kind = _mail_kind(claim)
        style, words = self._words(claim, unsubscribe_url)
        shape = words.shape
        values, html_values = encoded_values(words.values)
        text_words = _for_text(words)
        if text_words is not words:
            values = [
                known if new is old else encode_piece(new)
                for known, old, new in zip(values, words.values, text_words.values, strict=True)
            ]
        text = self._part(style, kind, ".txt").encoded(text_words, shape, values)
        html = self._part(style, kind, ".html").encoded(words, shape, html_values)
        return Email(
            effect_id=claim.effect_id.hex,
            to=to,
            subject=_subject(self._part(style, kind, ".subject.txt").text(words, shape)),
            body=alternatives(text, html),
            attachments=attachments,
            locale=style.language,
            unsubscribe_url=unsubscribe_url,
            date=claim.created_at,
            send_before=claim.send_before,
        )

    def read(self, claim: Claim, unsubscribe_url: str | None = None) -> Rendered:
        """Render a mail by Jinja as its reader sees it, for previews and checks."""
        kind = _mail_kind(claim)
        style, words = self._words(claim, unsubscribe_url)
        return Rendered(
            subject=_subject(self._part(style, kind, ".subject.txt").render(words)),
            text=self._part(style, kind, ".txt").render(_for_text(words)).rstrip("\n") + "\n",
            html=self._part(style, kind, ".html").render(words),
        )

    def invoice(self, claim: Claim, invoice: InvoiceDocument) -> Invoice:
        """Return what an invoice of our own states."""
        style = self.locales.find(claim.locale)
        return invoice_of(claim, invoice, style, labels=self._labels(style), shop=self._shop, zone=self._zone)

    def _labels(self, style: Style) -> InvoiceLabels:
        chain = self.locales.chain(style.language)
        return next(self.labels[language] for language in chain if language in self.labels)

    def subject_lines(self, claim: Claim) -> int:
        """Return how many lines the template of a subject has; they would be made one."""
        style, words = self._words(claim, None)
        return len(self._part(style, _mail_kind(claim), ".subject.txt").render(words).strip().splitlines())

    def _words(self, claim: Claim, unsubscribe_url: str | None) -> tuple[Style, Words]:
        style = self.locales.find(claim.locale)
        words = words_of(claim, style, shop=self._shop, zone=self._zone, unsubscribe_url=unsubscribe_url)
        return style, words

    def _part_of(self, name: str) -> _Part:
        return _Part(self._templates[name], is_plain=writes_values_only(self.environment, name))

    def _part(self, style: Style, kind: Kind, ending: str) -> _Part:
        key = (style.language, kind, ending)
        part = self._found.get(key)
        if part is None:
            names = (f"{language}/{kind}{ending}" for language in self.locales.chain(style.language))
            part = self._found[key] = next(self._parts[name] for name in names if name in self._parts)
        return part


def templates_of(settings: NotificationSettings) -> Templates:
    """Return the templates that the settings ask for."""
    return Templates(
        shop=settings.public_name,
        folder=Path(settings.templates_dir) if settings.templates_dir else None,
        default_locale=settings.default_locale,
        time_zone=settings.time_zone,
    )


def _for_text(words: Words) -> Words:
    """Return the words of the text part, whose lines have an end."""
    values = folded(words.values)
    return words if values is words.values else msgspec.structs.replace(words, values=values)


def _subject(text: str) -> str:
    return one_line(text)[:SUBJECT_CHARS_MAX]


def _mail_kind(claim: Claim) -> Kind:
    return Kind.INVOICE_EMAIL if claim.kind is Kind.INVOICE_EMAIL else Kind.ORDER_EMAIL
