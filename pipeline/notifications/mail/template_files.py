"""The files of templates: those shipped, and an operator's folder over them, read and compiled once."""

from pathlib import Path

import msgspec
from jinja2 import (
    BaseLoader,
    ChoiceLoader,
    Environment,
    FileSystemLoader,
    PackageLoader,
    PrefixLoader,
    Template,
    TemplateError,
    TemplateNotFound,
    TemplateSyntaxError,
)

from pipeline.errors import SettingsError
from pipeline.notifications.mail.invoice import InvoiceLabels
from pipeline.notifications.mail.sandbox import TemplateEnvironment

SHIPPED = "shipped"


def environment_of(folder: Path | None) -> TemplateEnvironment:
    """Return Jinja with the files at hand. Raises SettingsError when there is no such folder."""
    shipped = PackageLoader("pipeline.notifications.mail", "message_templates")
    loaders: list[BaseLoader] = [shipped, PrefixLoader({SHIPPED: shipped})]
    if folder is not None:
        if not folder.is_dir():
            raise SettingsError([f"notifications.templates_dir: {folder}: no such folder"])
        loaders.insert(0, FileSystemLoader(folder))
    return TemplateEnvironment(ChoiceLoader(loaders))


def file_names(environment: Environment) -> list[str]:
    """Return the names of all files, each once, whether they are templates or not."""
    return [name for name in environment.list_templates() if not name.startswith(f"{SHIPPED}/")]


def compiled(environment: Environment) -> dict[str, Template]:
    """Return every template by its name. Raises SettingsError naming each that is none."""
    found, problems = {}, []
    for name in file_names(environment):
        if not name.endswith((".txt", ".html")):
            continue
        try:
            found[name] = environment.get_template(name)
        except TemplateSyntaxError as error:
            problems.append(f"template {error.name or name}, line {error.lineno}: {error.message}")
        except (TemplateError, UnicodeDecodeError, RecursionError) as error:
            problems.append(f"template {name}: {error}")
    if problems:
        raise SettingsError(problems)
    return found


def read_labels(environment: Environment, languages: set[str]) -> dict[str, InvoiceLabels]:
    """Return the words of invoices of the languages that have them. Raises SettingsError."""
    assert environment.loader is not None
    labels, problems = {}, []
    for language in sorted(languages):
        name = f"{language}/invoice.toml"
        try:
            source, _, _ = environment.loader.get_source(environment, name)
            labels[language] = msgspec.toml.decode(source, type=InvoiceLabels)
        except TemplateNotFound:
            continue
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            problems.append(f"template {name}: {error}")
    if problems:
        raise SettingsError(problems)
    return labels
