"""`postorder templates`: what messages look like, and what is wrong with their templates."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from consumers.command import ConfigOption, config_path
from pipeline.errors import SettingsError
from pipeline.notifications.mail.lint import lint
from pipeline.notifications.mail.mime import MailWriter
from pipeline.notifications.mail.samples import SAMPLE_TO, SAMPLE_URL, sample_variants
from pipeline.notifications.mail.sms_lint import sms_notes
from pipeline.notifications.mail.templates import Templates, templates_of
from pipeline.notifications.notification import Attachment
from pipeline.settings import EmailSettings, NotificationSettings, SmsSettings, load_settings
from pipeline.storage.outbox import Claim, InvoiceDocument, Kind

templates_app = typer.Typer(help="The texts of SMS and e-mails.", no_args_is_help=True)


@templates_app.command("lint")
def lint_templates(config: ConfigOption = None) -> None:
    """Say what is wrong with the templates; exits 1 if anything is. The pipeline does not start then."""
    notifications, _, sms = _settings(config)
    templates = templates_of(notifications)
    problems = lint(templates, sms)
    for problem in problems:
        typer.echo(problem, err=True)
    for note in _notes(templates, is_whole=not problems):
        typer.echo(f"note: {note}")
    if problems:
        raise typer.Exit(1)
    typer.echo(f"{len(templates.names)} templates in {', '.join(templates.languages)}: nothing is wrong")


def _notes(templates: Templates, *, is_whole: bool) -> Iterator[str]:
    """Yield what is allowed, but may not be meant. Texts are looked at only if they can be rendered."""
    for name in templates.rendered_each_time:
        yield f"{name} does more with values than write them, which costs 0.2 ms a message"
    for name in templates.unused:
        yield f"{name} is used by no message and no template"
    if is_whole:
        yield from sms_notes(templates)


@templates_app.command()
def preview(
    out: Annotated[Path, typer.Option(help="The folder to write to.")] = Path("var/previews"),
    kind: Annotated[str, typer.Option(help="order_sms, order_email or invoice_email. Default: all.")] = "",
    locale: Annotated[str, typer.Option(help="Such as de-AT. Default: every language there is.")] = "",
    config: ConfigOption = None,
) -> None:
    """Write messages about a made-up order: .eml as it would be sent, .txt and .html as they are read."""
    if kind and kind not in set(Kind):
        raise SettingsError([f"--kind: must be one of {', '.join(Kind)}, not {kind!r}"])
    notifications, email, _ = _settings(config)
    templates = templates_of(notifications)
    if locale and not templates.locales.has(locale):
        there_are = ", ".join(templates.languages)
        raise SettingsError([f"--locale: there are no templates for {locale}, but for {there_are}"])
    writer = MailWriter(sender=email.from_address, sender_name=notifications.public_name)
    out.mkdir(parents=True, exist_ok=True)
    written = [
        path
        for each in ([Kind(kind)] if kind else Kind)
        for language in ([locale] if locale else templates.languages)
        for path in _preview(templates, writer, each, language, out)
    ]
    typer.echo(f"{len(written)} files in {out}")


def _preview(templates: Templates, writer: MailWriter, kind: Kind, locale: str, out: Path) -> list[Path]:
    """Write one kind in one locale, each variant of it that differs from the plain one."""
    files: dict[str, str | bytes] = {}
    seen: set[str] = set()
    for variant, claim in sample_variants(kind, locale).items():
        stem = f"{kind}.{locale}" + ("" if variant == "plain" else f".{variant.replace(' ', '-')}")
        if kind is Kind.ORDER_SMS:
            text = templates.sms(claim, "+14155550123").body + "\n"
            found: dict[str, str | bytes] = {f"{stem}.txt": text}
        else:
            read = templates.read(claim, SAMPLE_URL)
            text = f"Subject: {read.subject}\n\n{read.text}"
            invoices = tuple(_attachment(templates, claim, invoice) for invoice in claim.invoices[:1])
            mail = templates.email(claim, SAMPLE_TO, invoices, SAMPLE_URL)
            eml = writer.write(mail, datetime.now(UTC))
            found = {f"{stem}.txt": text, f"{stem}.html": read.html, f"{stem}.eml": eml}
        if text not in seen:
            seen.add(text)
            files |= found
    for name, content in files.items():
        (out / name).write_bytes(content.encode() if isinstance(content, str) else content)
    return [out / name for name in files]


def _attachment(templates: Templates, claim: Claim, invoice: InvoiceDocument) -> Attachment:
    from pipeline.notifications.mail.invoice_pdf import invoice_pdf  # noqa: PLC0415  # slow; for previews only

    content = invoice_pdf(templates.invoice(claim, invoice))
    return Attachment(filename="invoice.pdf", media_type="application/pdf", content=content)


def _settings(config: Path | None) -> tuple[NotificationSettings, EmailSettings, SmsSettings]:
    """Return what templates need: of a settings file if there is one, else as shipped."""
    try:
        path = config_path(config)
    except SettingsError:
        return NotificationSettings(), EmailSettings(), SmsSettings()
    settings = load_settings(path)
    return settings.notifications, settings.email, settings.sms
