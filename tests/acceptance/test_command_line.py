"""The shipped commands as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

import orjson
import pytest
from commands import ROOT, postorder_anew
from real_stack import Bench, invoice_event, order_event

pytestmark = pytest.mark.acceptance


def test_without_settings_it_says_what_to_do(tmp_path: Path) -> None:
    done = postorder_anew("run", cwd=tmp_path)
    assert done.returncode == 2
    assert "postorder stack up" in done.stderr
    assert "Traceback" not in done.stderr


def test_every_wrong_setting_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "postorder.toml").write_text(
        '[[shards]]\nname = "S!"\nprimary = "x"\n'
        '[amqp]\nprefetch = 0\npassword = "hush-hush"\n[intake]\nfoo = 1\n'
    )
    done = postorder_anew("status", cwd=tmp_path, POSTORDER_EMAIL_PROT="25")
    assert done.returncode == 2
    lines = done.stderr.splitlines()
    for key in ("shards.S!.name", "amqp.prefetch", "amqp.password", "intake.foo", "POSTORDER_EMAIL_PROT"):
        assert any(key in line for line in lines), (key, lines)
    assert len(lines) == 5
    assert "hush-hush" not in done.stderr


@pytest.mark.parametrize("command", [["status"], ["migrate"], ["topology", "apply"], ["publish", "-"]])
def test_what_cannot_be_reached_is_named(tmp_path: Path, command: list[str]) -> None:
    (tmp_path / "postorder.toml").write_text(
        '[[shards]]\nname = "s0"\nprimary = "postgresql://u@127.0.0.1:9/x"\n[amqp]\nurl = "amqp://u@127.0.0.1:9/"\n'
    )
    done = postorder_anew(*command, cwd=tmp_path, text=json.dumps(order_event("o-1")))
    assert done.returncode == 1
    [line] = done.stderr.splitlines()
    assert "127.0.0.1:9: connection refused: is it running?" in line


def test_run_waits_for_a_database_that_is_away_and_ends_cleanly_when_told(tmp_path: Path) -> None:
    (tmp_path / "postorder.toml").write_text(
        '[[shards]]\nname = "s0"\nprimary = "postgresql://u@127.0.0.1:9/x"\n'
    )
    with subprocess.Popen(
        [sys.executable, "-m", "consumers", "run", "--only", "order-processed"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stderr
        first = json.loads(process.stderr.readline())
        process.terminate()
        rest = process.stderr.read()
        assert process.wait(timeout=10) == 0
    assert first["event"] == "shards.unavailable"
    assert "connection refused: is it running?" in first["shards"]["s0"]
    assert "Traceback" not in rest


async def test_publish_names_the_line_of_each_bad_event(
    bench: Bench, settings_file: Path, tmp_path: Path
) -> None:
    lines = [
        orjson.dumps(order_event("o-1")),
        b'{"specversion": "1.0", "type": ',
        orjson.dumps(order_event("o-2", total=1.5)),
        orjson.dumps(invoice_event("o-1")),
    ]
    path = tmp_path / "events.jsonl"
    path.write_bytes(b"\n".join(lines))
    done = postorder_anew("publish", str(path), "--config", str(settings_file))
    assert done.returncode == 1
    assert done.stdout.strip() == "2 events confirmed"
    first, second = done.stderr.splitlines()
    assert f"{path}:2: malformed_json" in first
    assert f"{path}:3: invalid_data" in second
    assert "$.data.total" in second
    depths = {queue.name: queue.messages for queue in (await bench.status()).queues}
    assert (depths["order-processed"], depths["invoice-generated"]) == (1, 1)


async def test_the_examples_can_be_published_and_come_out(
    bench: Bench, settings_file: Path, run_pipeline
) -> None:
    examples = sorted(str(path) for path in (ROOT / "examples").glob("*.json*"))
    done = postorder_anew("publish", *examples, "--config", str(settings_file))
    assert (done.returncode, done.stderr) == (0, "")
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.until_quiet(3)
    shown = postorder_anew("status", "--json", "--config", str(settings_file))
    assert shown.returncode == 0
    status = json.loads(shown.stdout)
    assert status["totals"]["orders"] == 2
    assert status["totals"]["invoices"] == 1
    assert status["accounting"]["events_difference"] == 0
    assert status["accounting"]["effects_difference"] == 0
    assert set(status["per_min"]) == {"orders", "invoices", "sms", "email"}
    assert set(status["shards"]) == {"shard0", "shard1"}
    assert all(shard["replicas"][0]["sync_state"] == "sync" for shard in status["shards"].values())


async def test_migrate_and_topology_can_be_applied_again(bench: Bench, settings_file: Path) -> None:
    for command in (["migrate"], ["topology", "apply"]):
        done = postorder_anew(*command, "--config", str(settings_file))
        assert (done.returncode, done.stderr) == (0, "")
    assert "up to date" in postorder_anew("migrate", "--config", str(settings_file)).stdout


async def test_another_list_of_shards_than_was_migrated_is_refused(
    bench: Bench, settings_file: Path, tmp_path: Path
) -> None:
    one_less = (
        settings_file.read_text()
        .rsplit("[[shards]]", 1)[0]
        .replace('"secrets/', f'"{settings_file.parent}/secrets/')
    )
    (tmp_path / "postorder.toml").write_text(one_less)
    done = postorder_anew("run", "--only", "order-processed", cwd=tmp_path)
    assert done.returncode == 1
    assert "names shard1, the settings do not: add it under [[shards]]" in done.stderr
    assert "Traceback" not in done.stderr
