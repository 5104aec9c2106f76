"""`postorder get`: what is there is shown, with who answered; personal data only when asked for."""

import json
from pathlib import Path

import pytest
from commands import postorder
from reading import Writer
from real_stack import Bench

pytestmark = pytest.mark.acceptance


async def test_orders_invoices_and_customers_are_found(bench: Bench, settings_file: Path) -> None:
    writer, config = Writer(bench), ("--config", str(settings_file))
    one, two = writer.name("shard0"), writer.name("shard1")
    for name in (one, two):
        await writer.order(name, "c-5")
        await writer.invoice(name, f"inv-{name}")
    await writer.person("c-5")

    shown = postorder("get", "order", one, *config, COLUMNS="200")
    assert shown.returncode == 0, shown.stderr
    assert "74.40 EUR" in shown.stdout
    assert "order_sms" in shown.stdout
    assert f"inv-{one}" in shown.stdout
    assert "answered by shard0 " in shown.stdout
    assert "a…@example.com" in shown.stdout
    assert "…123" in shown.stdout
    assert "ada@" not in shown.stdout
    assert "Ada" not in shown.stdout
    assert "ada@example.com" in postorder("get", "order", one, "--personal", *config, COLUMNS="200").stdout

    for mode in ("primary", "replica"):
        found = json.loads(postorder("get", "order", one, "--mode", mode, "--json", *config).stdout)
        assert found["found"]["order"]["order_id"] == one
        [served] = found["served"]
        assert served["role"] == mode

    again = postorder("get", "order", one, "--token", found["tokens"][0], "--json", *config)
    assert json.loads(again.stdout)["found"] == found["found"]

    invoice = json.loads(postorder("get", "invoice", f"inv-{two}", "--json", *config).stdout)
    assert [entry["order_id"] for entry in invoice["found"]] == [two]
    assert {served["shard"] for served in invoice["served"]} == {"shard0", "shard1"}
    alone = json.loads(postorder("get", "invoice", f"inv-{two}", "--order", two, "--json", *config).stdout)
    assert [served["shard"] for served in alone["served"]] == ["shard1"]
    customer = postorder("get", "customer", "c-5", "--limit", "1", *config, COLUMNS="200")
    assert one in customer.stdout or two in customer.stdout
    assert "more than these 1" in customer.stderr
    assert "does not want" in customer.stdout
    assert "g…@example.com" in customer.stdout
    assert "Grace" not in customer.stdout


async def test_what_is_not_there_or_asked_wrongly_is_one_line(bench: Bench, settings_file: Path) -> None:
    config = ("--config", str(settings_file))
    for what, line in (
        ("order", "no order nobody (asked: shard"),
        ("invoice", "no invoice nobody (asked: shard0"),
        ("customer", "no customer nobody (asked: shard0"),
    ):
        found = postorder("get", what, "nobody", *config)
        assert found.returncode == 1
        assert found.stderr.startswith(f"postorder: {line}")
        assert len(found.stderr.splitlines()) == 1
    for options, line in (
        (("--token", "nonsense"), "postorder: --token: a token has the form"),
        (("--consistency", "session"), "postorder: --consistency session: needs a --token"),
    ):
        refused = postorder("get", "order", "o-1", *options, *config)
        assert (refused.returncode, len(refused.stderr.splitlines())) == (2, 1)
        assert refused.stderr.startswith(line)
