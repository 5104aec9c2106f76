"""Commands that look, while a shard is away: what is on the others is shown, and what is missing is said."""

import json
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import pytest
from commands import postorder
from real_stack import Bench, order_event

from stack.ports import HOST, choose_port

pytestmark = pytest.mark.acceptance

ORDERS = 8


@pytest.fixture
def away(bench: Bench, settings_file: Path):
    """Runs a command that cannot reach shard1; returns its status, what it says, and what it complains of."""
    port = choose_port("management", set())
    address = urlsplit(bench.stack.shards[1].primary_dsn)
    elsewhere = urlunsplit(address._replace(netloc=f"{address.username}@{HOST}:{port}"))

    def run(*arguments: str) -> tuple[int, str, str]:
        done = postorder(
            *arguments, "--config", str(settings_file), POSTORDER_SHARD_SHARD1_PRIMARY=elsewhere
        )  # fmt: skip
        return done.returncode, done.stdout, done.stderr

    run.why = f"shard1 primary at {HOST}:{port}: connection refused: is it running?"  # type: ignore[attr-defined]
    return run


async def test_what_is_on_the_other_shards_is_shown(bench: Bench, away: Any, run_pipeline) -> None:
    ids = [f"o-{number}" for number in range(ORDERS)]
    homes = {one: bench.cluster.router.place(one)[0] for one in ids}
    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(*(order_event(one) for one in ids), *(b"[" for _ in range(ORDERS)))
        await bench.until_quiet(2 * ORDERS)
    at_home = [one for one in ids if homes[one] == "shard0"]
    code, out, _ = away("status", "--json")
    status = json.loads(out)
    assert (code, status["away"], list(status["shards"])) == (1, {"shard1": away.why}, ["shard0"])
    assert status["totals"]["orders"] == len(at_home)
    assert status["accounting"]["effects_difference"] == 0
    code, out, _ = away("status")
    assert code == 1
    assert "shard1 does not answer" in " ".join(out.split())
    missing = f"postorder: what is on shard1 is missing: {away.why}"
    code, out, err = away("effects", "list", "--state", "accepted", "--json")
    assert (code, err.splitlines()) == (1, [missing])
    found = [json.loads(line) for line in out.splitlines()]
    assert {one["order_id"] for one in found} == set(at_home)
    code, out, err = away("quarantine", "list", "--json")
    assert (code, err.splitlines()) == (1, [missing])
    assert {json.loads(line)["shard"] for line in out.splitlines()} <= {"shard0"}
    code, out, err = away("shards", "show", "--json")
    assert (code, err.splitlines()) == (1, [missing])
    assert [one["name"] for one in json.loads(out)["shards"]] == ["shard0"]
    code, out, err = away("shards", "status", "--json")
    assert (code, json.loads(out), err.splitlines()) == (1, [], [missing])
    assert away("effects", "show", found[0]["effect_id"])[0] == 0
    code, _, err = away("effects", "show", "0" * 32)
    assert (code, err.splitlines()) == (1, ["postorder: shard1: no answer: the message may be there"])
    for order_id, shard in homes.items():
        code, _, err = away("timeline", order_id)
        assert (code, err.splitlines()) == ((0, []) if shard == "shard0" else (1, [f"postorder: {away.why}"]))
