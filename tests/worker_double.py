"""A worker's program without a pipeline: it speaks to its supervisor, and does what the test's file says."""

import json
import os
import signal
import socket
import sys
import threading
import time

task = json.loads(sys.argv[1])
with open(task["config"], encoding="utf-8") as file:  # noqa: PTH123  # fast to start
    plan = json.load(file)
number = task["number"]
notes = os.path.join(plan["folder"], f"worker-{number}.jsonl")  # noqa: PTH118
supervisor = socket.socket(fileno=task["socket"])
lines = supervisor.makefile("rwb")


def note(**what: object) -> None:
    with open(notes, "a", encoding="utf-8") as file:  # noqa: PTH123
        file.write(json.dumps({"pid": os.getpid(), **what}) + "\n")


def end(status: int, why: str) -> None:
    note(ended=why)
    os._exit(status)


def speak() -> None:
    while True:
        lines.write(json.dumps({"readings": {}, "prefetch": 1, "batch_max": 1}).encode() + b"\n")
        lines.flush()
        if plan.get("hangs"):
            os.kill(os.getpid(), signal.SIGSTOP)
        time.sleep(0.05)


def next_line() -> bytes:
    """Return the next order; nothing when the supervisor is gone, in whichever way the kernel says so."""
    try:
        return lines.readline()
    except ConnectionResetError:
        return b""


signal.signal(signal.SIGTERM, lambda *_: end(0, "SIGTERM"))
note(
    started=True, parent=os.getppid(), roles=task["roles"], port=os.environ.get("POSTORDER_OPS_METRICS_PORT")
)
if plan.get("status"):
    end(plan["status"], "planned")
if not plan.get("silent"):
    threading.Thread(target=speak, daemon=True).start()
while line := next_line():
    order = json.loads(line)
    note(order=order)
    if order["stop"] and not plan.get("deaf"):
        end(0, "told to")
if plan.get("deaf"):
    signal.pause()
end(0, "alone")
