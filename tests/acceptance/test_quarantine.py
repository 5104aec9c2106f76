"""`postorder quarantine`: what was refused can be found, understood, published again and given up."""

import base64
import json
import stat
from pathlib import Path
from urllib.parse import urlsplit

import orjson
import pytest
from commands import postorder
from on_record import last_done
from real_stack import Bench, order_event

pytestmark = pytest.mark.acceptance

BAD = b'{"not": "an event", "at": "\x1b[31mall"}'


async def test_list_show_export_and_drop(
    bench: Bench, settings_file: Path, run_pipeline, tmp_path: Path
) -> None:
    with run_pipeline():
        await bench.publish(BAD, b"[", routing_key="order.processed", headers={"k": bytearray(b"\xff")})
        await bench.publish(BAD, routing_key="invoice.generated")
        await bench.until_quiet(3)
    config = ("--config", str(settings_file))

    listed = postorder("quarantine", "list", "--json", *config)
    rows = [json.loads(line) for line in listed.stdout.splitlines()]
    assert {base64.b64decode(row["body_base64"]) for row in rows} == {BAD, b"["}
    table = postorder("quarantine", "list", "--reason", "malformed_json", *config, COLUMNS="200").stdout
    assert rows[0]["quarantine_id"][:12] in table or "malformed_json" in table
    assert "not an event" not in table

    [one] = [row for row in rows if row["queue"] == "invoice-generated"]
    shown = postorder("quarantine", "show", one["quarantine_id"][:8], *config)
    assert "malformed_json" in shown.stdout
    assert "\x1b[31m" not in shown.stdout
    assert postorder("quarantine", "show", "ffffffffffff", *config).returncode == 1

    target = tmp_path / "held.jsonl"
    target.write_text("what was exported before")
    target.chmod(0o644)
    done = postorder("quarantine", "export", str(target), "--queue", "order-processed", *config)
    assert done.stderr.strip() == "2 deliveries exported"
    assert len(target.read_text().splitlines()) == 2
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.glob("*held*")] == ["held.jsonl"]
    to_pipe = postorder("quarantine", "export", "-", "--queue", "order-processed", *config)
    assert to_pipe.stdout == target.read_text()

    assert "3 deliveries would be dropped" in postorder("quarantine", "drop", "--dry-run", *config).stdout
    assert postorder("quarantine", "drop", *config, text="n\n").returncode == 1
    assert "3 deliveries dropped" in postorder("quarantine", "drop", "--yes", *config).stdout
    assert (await last_done(bench.cluster, "quarantine.drop")).detail == "3 deliveries"
    assert postorder("quarantine", "list", "--json", *config).stdout == ""
    assert (
        len(postorder("quarantine", "list", "--json", "--state", "dropped", *config).stdout.splitlines()) == 3
    )


async def test_redrive_brings_a_mended_event_in_and_holds_the_rest(
    bench: Bench, settings_file: Path, run_pipeline
) -> None:
    """I33: and running it again changes nothing."""
    config = ("--config", str(settings_file))
    order = orjson.dumps(order_event("late"))
    with run_pipeline(intake_message_bytes_max="100", notifications_grace_window_s="0"):
        await bench.publish(order, b"[")
        await bench.until_quiet(2)
    assert "2 deliveries would be redriven" in postorder("quarantine", "redrive", "--dry-run", *config).stdout
    assert "2 deliveries redriven" in postorder("quarantine", "redrive", *config).stdout
    with run_pipeline(notifications_grace_window_s="0"):
        status = await bench.until_quiet(4)
        assert (status.totals["orders"], status.effects["sms"]) == (1, {"accepted": 1})
        held = await bench.rows("SELECT body, seen, state FROM quarantine WHERE state = 'held'")
        assert [tuple(row.values()) for row in held] == [(b"[", 2, "held")]
        assert "1 deliveries redriven" in postorder("quarantine", "redrive", *config).stdout
        status = await bench.until_quiet(5)
    assert (status.totals["orders"], status.totals["duplicates"]) == (1, 0)
    assert len(await bench.sms()) == 1


async def test_an_export_that_fails_leaves_the_old_file(
    bench: Bench, settings_file: Path, tmp_path: Path
) -> None:
    target = tmp_path / "held.jsonl"
    target.write_text("before")
    away = settings_file.with_name("away.toml")
    port = urlsplit(bench.stack.shards[0].primary_dsn).port
    away.write_text(settings_file.read_text().replace(f":{port}/", ":1/"))
    done = postorder("quarantine", "export", str(target), "--config", str(away))
    assert (done.returncode, "Traceback" in done.stderr) == (1, False), done.stderr
    assert "shard0 primary" in done.stderr
    assert target.read_text() == "before"
    assert [path.name for path in tmp_path.glob("*held*")] == ["held.jsonl"]
    nowhere = tmp_path / "no" / "such" / "folder"
    done = postorder("quarantine", "export", str(nowhere), "--config", str(settings_file))
    assert done.stderr.strip() == f"postorder: {nowhere}: No such file or directory: nothing was exported"


@pytest.mark.parametrize("arguments", [["list", "xyz!"], ["list", "--since", "yesterday"], ["show", "ab"]])
def test_wrong_arguments_are_named(settings_file: Path, arguments: list[str]) -> None:
    done = postorder("quarantine", *arguments, "--config", str(settings_file))
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


async def test_publishing_from_another_system(bench: Bench, settings_file: Path, run_pipeline) -> None:
    sample = next(Path(__file__).parents[1].glob("data/upstream/woocommerce/*.json"))
    config = ("--config", str(settings_file))
    with run_pipeline(notifications_grace_window_s="0"):
        for _ in range(2):
            done = postorder("publish", "--from", "woocommerce", str(sample), *config)
            assert (done.returncode, done.stdout.strip()) == (0, "1 events confirmed"), done.stderr
        status = await bench.until_quiet(2)
    assert (status.totals["orders"], status.totals["duplicates"]) == (1, 1)
    done = postorder("publish", "--from", "nosuch", str(sample), *config)
    assert done.returncode == 2
