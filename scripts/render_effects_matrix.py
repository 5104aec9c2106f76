"""Writes docs/reference/effects-matrix.md from var/faults/effects-matrix.json, which fault tests write."""

import json
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "var/faults/effects-matrix.json"
TARGET = ROOT / "docs/reference/effects-matrix.md"
OUTCOMES = {
    "accepted": "takes it",
    "refused": "refuses it",
    "dropped": "closes, not taken",
    "reply_lost": "takes it, reply lost",
}
STEPS = {
    "nowhere": "(it does not end)",
    "before_claim": "before the claim",
    "claimed": "claim committed",
    "composed": "message composed",
    "before_call": "just before the call",
    "request_written": "request written, no reply",
    "reply_read": "reply read",
    "before_commit": "before the receipt's commit",
    "after_commit": "after the receipt's commit",
}
DEATHS = {"kill": "kill -9", "stop": "SIGSTOP past the lease, then SIGCONT"}
CHANNELS = {"sms": "SMS", "email": "E-mail"}
GUARDS = {
    "without_send_before": "a call may begin after the lease",
    "blind": "an unknown outcome is tried again without asking",
    "send_before_record": "`submitting` is durable only with the receipt",
}
HEAD = """# The effects matrix

<!-- Made by scripts/render_effects_matrix.py from var/faults/effects-matrix.json. Do not edit. -->

What becomes of messages when the process that sends them ends: at each step of the send path, by `kill -9`
or by SIGSTOP for longer than its lease. The columns say what the provider does with the first request it gets
for a message: take it, refuse it for now (429, 451), close the connection without taking it, or take it and
lose the reply. Real processes, the Twilio emulator and the SMTP sink; another sender takes over, and one that
was stopped wakes up when that one has finished. Measured by
`make test-faults ARGS="tests/faults/test_effects_matrix.py"`, {at}.

**{messages} messages in {cells} cells: {lost} lost, {sms_duplicates} SMS twice, {mail_duplicates} mails
twice, {unknown} left unknown.** A cell is run by itself or with others; what is shown is each one's last run.
A mail is sent again, under the same Message-ID, where nobody can be asked
whether it was taken and the policy of its kind is `prefer-duplicate`; with `person` it would be listed
instead, by `postorder effects list`.

A cell says how many of its messages the provider has, and what else there is to say: `+2` two were taken
twice, `2?` two are unknown and listed.
"""


def render(report: dict[str, Any]) -> str:
    """Return the page."""
    cells = report["cells"]
    by_place = {(c["channel"], c["death"], c["step"], c["outcome"]): c for c in cells}
    parts = [HEAD.format(at=report["at"], **_totals(cells))]
    for channel, channel_name in CHANNELS.items():
        for death, death_name in DEATHS.items():
            parts.append(f"\n## {channel_name}, {death_name}\n")
            parts.append(f"| ended | {' | '.join(OUTCOMES.values())} |\n|---|{'---|' * len(OUTCOMES)}")
            for step, step_name in STEPS.items():
                how = "lives" if step == "nowhere" else death
                row = [by_place.get((channel, how, step, outcome)) for outcome in OUTCOMES]
                if any(row):
                    parts.append(f"| {step_name} | {' | '.join(map(_cell, row))} |")
    parts.append(_guards(report["guards"]))
    return "\n".join(parts) + "\n"


def _totals(cells: list[dict[str, Any]]) -> dict[str, int]:
    def sum_of(what: str, channel: str = "") -> int:
        return sum(cell[what] for cell in cells if channel in {"", cell["channel"]})

    return {
        "cells": len(cells),
        "messages": sum_of("messages"),
        "lost": sum_of("lost"),
        "unknown": sum_of("unknown"),
        "sms_duplicates": sum_of("duplicates", "sms"),
        "mail_duplicates": sum_of("duplicates", "email"),
    }


def _cell(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return "-"
    words = [f"{cell['sent']} of {cell['messages']}"]
    if cell["duplicates"]:
        words.append(f"+{cell['duplicates']}")
    if cell["unknown"]:
        words.append(f"{cell['unknown']}?")
    if cell["lost"]:
        words.append(f"{cell['lost']} LOST")
    return " ".join(words)


def _guards(guards: dict[str, list[str]]) -> str:
    rows = [f"| {GUARDS[name]} | {len(found)} | {found[0]} |" for name, found in guards.items() if found]
    return "\n".join(
        [
            "\n## With a guard taken out\n",
            "The same runs see it when a guard is missing:\n",
            "| without it | promises broken | the first |",
            "|---|---|---|",
            *rows,
        ]
    )


if __name__ == "__main__":
    if not SOURCE.exists():
        sys.exit(f"{SOURCE} is missing: run the fault tests first")
    TARGET.write_text(render(json.loads(SOURCE.read_text())), encoding="utf-8")
    print(f"{TARGET.relative_to(ROOT)} written")
