"""The program inside the filter of system calls that its systemd unit puts around it."""

import subprocess
import sys
from pathlib import Path

import pytest
import unit_sandbox
from deployment import DEPLOY, ROOT
from real_stack import Bench, invoice_event, order_event

from stack.ports import choose_port

SCRIPT = ROOT / "tests/unit_sandbox.py"
UNIT = DEPLOY / "systemd/postorder@.service"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(bool(why := unit_sandbox.missing()), reason=why),
]


def inside(program: str) -> str:
    """What a piece of Python prints inside the filter."""
    lines = [
        f"import sys; sys.path.insert(0, {str(SCRIPT.parent)!r})",
        "import unit_sandbox; from pathlib import Path",
        f"unit_sandbox.restrict(Path({str(UNIT)!r}))",
        program,
    ]
    words = [sys.executable, "-c", "\n".join(lines)]
    return subprocess.run(words, capture_output=True, text=True, timeout=30, check=True).stdout.strip()


def test_the_filter_is_at_work() -> None:
    refused = "\ntry: {}\nexcept OSError as error: print(error.errno)\nelse: print('done')"
    assert inside("import os" + refused.format("os.chroot('/')")) == "1"
    assert inside("import os" + refused.format("os.sched_setaffinity(0, {0})")) == "1"
    assert inside("import socket" + refused.format("socket.socket(socket.AF_NETLINK)")) == "97"
    assert inside("import socket" + refused.format("socket.socket(socket.AF_INET).close()")) == "done"


async def test_workers_and_their_supervisor_work_and_drain_inside_it(bench: Bench, run_pipeline) -> None:
    listening = {f"{name}_port": str(choose_port(name, set())) for name in ("public", "api")}
    with run_pipeline(
        *("--workers", "2"),
        program=(str(SCRIPT), str(UNIT)),
        api_secret="s" * 40,
        public_secret="s" * 40,
        public_base_url="https://hooks.shop.example",
        notifications_grace_window_s="0",
        **listening,
    ) as process:

        async def listens() -> bool:
            return process.log.read_text().count('"listener.started"') == len(listening)

        for number in range(10):
            await bench.publish(order_event(f"o-{number}"), invoice_event(f"o-{number}"))
        await bench.until_quiet(20)
        await bench.until(listens, "the listeners of the first worker listen")
        assert "\nSeccomp:\t2\n" in Path(f"/proc/{process.pid}/status").read_text()
    assert process.exit_status == 0
    assert len(await bench.sms()) == 10
    assert "Operation not permitted" not in process.log.read_text()
