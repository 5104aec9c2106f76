"""What a user is told whose templates are wrong: one line for each problem, with its file and line."""

import signal
import threading
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

from consumers.bootstrap import Process
from consumers.cli import app
from consumers.roles import Role
from pipeline.errors import SettingsError
from pipeline.notifications.mail import lint as linting
from pipeline.notifications.mail.cpu_limit import CpuLimitError, cpu_limit
from pipeline.notifications.mail.lint import lint
from pipeline.notifications.mail.sms_lint import sms_notes
from pipeline.notifications.mail.templates import Templates
from pipeline.settings import NotificationSettings, Settings, ShardSettings, SmsSettings

TEXT, SMS = "en/order_email.txt", "en/order_sms.txt"
ENDLESS = "{% for x in range(99999) %}{% for y in range(99999) %}{% endfor %}{% endfor %}x"


def own(folder: Path, name: str, source: str | bytes, **settings: str) -> Templates:
    file = folder / name
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(source if isinstance(source, bytes) else source.encode())
    return Templates(**{"shop": "Shop", "folder": folder, **settings})


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        (TEXT, "a\n{{ nmae }}", f"template {TEXT}, line 2: nmae is no variable: choose from date, "),
        (
            TEXT,
            "a\n{% for line in lines %}{{ line.titel }}{% endfor %}",
            f"template {TEXT}, line 2: UndefinedError: 'dict object' has no attribute 'titel'",
        ),
        (TEXT, "{{ 'x' * 10**12 }}", f"template {TEXT}, line 1: OverflowError: * makes 1000000000000 of it"),
        (TEXT, "{{ 2 ** 1000000000 }}", f"template {TEXT}, line 1: OverflowError: ** 1000000000: at most"),
        (TEXT, "{{ 'x'|center(500000) }}", f"template {TEXT}: over 400000 characters"),
        (TEXT, " \n", f"template {TEXT}: is empty (an order that is plain)"),
        (TEXT, "{% if name %}x{% endif %}", f"template {TEXT}: is empty (an order that is without a name)"),
        (TEXT, '{% extends "none.txt" %}', f"template {TEXT}, line 1: TemplateNotFound: none.txt"),
        (SMS, "{{ shop }}", f"template {SMS}: lacks {{{{ number }}}} (an order that is plain)"),
        (
            SMS,
            "{% if name %}{{ number }}{% endif %} x",
            f"template {SMS}: lacks {{{{ number }}}} (an order that is without a name)",
        ),
        (
            SMS,
            f"{'x' * 460}{{{{ number }}}}",
            f"template {SMS}: {{{{ number }}}} does not fit into sms.segments_max = 3",
        ),
        (
            SMS,
            f"{{{{ number }}}} {'x' * 400}",
            f"template {SMS}: takes 4 segments with a number of 64 characters, and sms.segments_max is 3",
        ),
        ("hi/order_sms.txt", "{{ number }}" + "ज" * 140, "template hi/order_sms.txt: takes 4 segments"),
        (SMS, "\u202e", f"template {SMS}: is empty (an order that is plain)"),
        ("it/order_email.html", "<html>", "template it/order_email.txt: is missing"),
    ],
)
def test_what_lint_says(name: str, source: str, problem: str, tmp_path: Path) -> None:
    problems = lint(own(tmp_path, name, source), SmsSettings())
    assert sum(found.startswith(problem) for found in problems) == 1, problems
    assert not any("\n" in found for found in problems)


@pytest.mark.parametrize(
    ("name", "source", "problem"),
    [
        (TEXT, "a\n{% if name %}", f"template {TEXT}, line 2: Unexpected end of template"),
        (TEXT, b"\xfc", f"template {TEXT}: 'utf-8' codec can't decode"),
        ("de/invoice.toml", "title = ", "template de/invoice.toml: Invalid value"),
        (
            "de/invoice.toml",
            'title = "x"',
            "template de/invoice.toml: Object missing required field `number`",
        ),
        ("de/invoice.toml", b"\xfc", "template de/invoice.toml: 'utf-8' codec can't decode"),
    ],
)
def test_what_cannot_be_read_at_all(name: str, source: str | bytes, problem: str, tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        own(tmp_path, name, source)
    assert [found.startswith(problem) for found in caught.value.problems] == [True], caught.value.problems


def test_a_loop_that_writes_nothing_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linting, "_RENDERING_CPU_S_MAX", 0.2)
    before = signal.getsignal(signal.SIGVTALRM)
    problems = lint(own(tmp_path, TEXT, ENDLESS), SmsSettings())
    assert problems == [f"template {TEXT}, line 1: CpuLimitError: takes more than 0.2 s of CPU time"]
    assert signal.getsignal(signal.SIGVTALRM) == before
    assert signal.getitimer(signal.ITIMER_VIRTUAL) == (0, 0)


def test_what_ends_in_time_is_left_alone_and_other_threads_are_not_bounded() -> None:
    with pytest.raises(CpuLimitError), cpu_limit(0.01):
        spend(5.0)
    with cpu_limit(0.01):
        pass
    spend(0.05)
    done: list[bool] = []

    def elsewhere() -> None:
        with cpu_limit(0.01):
            spend(0.05)
            done.append(True)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join(30)
    assert done == [True]


def spend(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


@pytest.mark.parametrize("shop", ["Shop", "W" * 60, "Ж" * 60])
def test_what_is_shipped_fits_whatever_the_shops_name(shop: str) -> None:
    assert lint(Templates(shop=shop), SmsSettings()) == []


def test_a_default_language_without_templates_is_told() -> None:
    problems = lint(Templates(shop="Shop", default_locale="it-CH"), SmsSettings())
    assert problems == [
        "notifications.default_locale: it-CH has no templates: there are de, en, es, fr, hi, kk"
    ]
    assert lint(Templates(shop="Shop", default_locale="de-AT"), SmsSettings()) == []


def test_letters_that_cost_segments_are_named(tmp_path: Path) -> None:
    assert list(sms_notes(Templates(shop="Shop"))) == []
    notes = list(sms_notes(own(tmp_path, "es/order_sms.txt", "{{ number }}: ¡está aquí!")))
    assert notes == [
        (
            "es/order_sms.txt: á í is not in the 7-bit alphabet of SMS, "
            "so a segment holds 70 characters instead of 160"
        )
    ]


def test_files_that_nothing_asks_for_are_named(tmp_path: Path) -> None:
    own(tmp_path, "en/order_mail.txt", "misspelt")
    own(tmp_path, "fr_CA/order_email.subject.txt", "misspelt")
    own(tmp_path, "en/part.txt", "included")
    mine = own(tmp_path, TEXT, '{% include "en/part.txt" %}{% include "shipped/de/order_sms.txt" %}')
    assert mine.unused == ["en/order_mail.txt", "fr_CA/order_email.subject.txt"]


def test_the_pipeline_refuses_them_before_it_connects_to_anything(tmp_path: Path) -> None:
    own(tmp_path, TEXT, "{{ nmae }}")
    sms = SmsSettings(account_sid=f"AC{'0' * 32}", auth_token="secret", from_number="+14155550100")
    settings = Settings(
        shards=(ShardSettings(name="s", primary="postgresql://u@127.0.0.1:1/d"),),
        sms=sms,
        notifications=NotificationSettings(templates_dir=str(tmp_path)),
    )
    with pytest.raises(SettingsError, match=f"template {TEXT}, line 1: nmae is no variable"):
        Process(settings, frozenset({Role.NOTIFICATIONS}), lambda _: None)
    Process(settings, frozenset({Role.ORDERS}), lambda _: None)


def test_the_command_tells_all_that_and_fails(tmp_path: Path) -> None:
    run = CliRunner().invoke
    own(tmp_path, "en/order_mail.txt", "misspelt")
    settings = tmp_path / "postorder.toml"
    shard = '[[shards]]\nname = "s"\nprimary = "postgresql://u@h/d"\n'
    settings.write_text(f'{shard}[notifications]\ntemplates_dir = "{tmp_path}"\n[sms]\nsegments_max = 2\n')
    result = run(app, ["templates", "lint", "--config", str(settings)])
    assert result.exit_code == 1
    assert "template kk/order_sms.txt: takes 3 segments" in result.output
    assert "note: en/order_mail.txt is used by no message and no template" in result.output
    preview = run(
        app, ["templates", "preview", "--locale", "it", "--out", str(tmp_path), "--config", str(settings)]
    )
    assert preview.exit_code != 0
    assert "--locale: there are no templates for it, but for de, en" in str(preview.exception)
