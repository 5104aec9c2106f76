"""`postorder recipients` and `postorder bounces`: a recipient gets nothing any more, and messages again."""

import json
from pathlib import Path

import pytest
from commands import postorder
from on_record import last_done
from real_stack import Bench, order_event

from pipeline.clock import SystemClock
from pipeline.notifications.rules.recipients import Recipients
from pipeline.storage.outbox import Channel
from pipeline.storage.recipients import recipient_key
from pipeline.storage.standing import RecipientState, Said

pytestmark = pytest.mark.acceptance

NUMBER, ADDRESS = "+14155550123", "o-1@example.com"

BOUNCE = """From MAILER-DAEMON Sat Nov 21 10:00:00 2026
X-Failed-Recipients: {recipient}
Subject: Mail delivery failed

550 5.1.1 no such user

Message-ID: {message_id}

"""


async def test_what_was_said_of_recipients_decides_what_is_sent(
    bench: Bench, settings_file: Path, run_pipeline, tmp_path: Path
) -> None:
    config = ("--config", str(settings_file))
    shown = postorder("recipients", "show", NUMBER, *config)
    assert "nobody said anything" in shown.stdout
    done = postorder("recipients", "block", "-", *config, text=" +1 415 555 0123\n")
    assert done.stdout.endswith("gets nothing from now on\n")
    assert "4155550123" not in done.stdout + done.stderr + shown.stdout
    record = await last_done(bench.cluster, "recipients.say")
    assert record.target == f"sms {recipient_key(Channel.SMS, NUMBER).key.hex}"
    assert "4155550123" not in str(record)

    async def states(order: str) -> dict[str, tuple[str, str | None]]:
        rows = await bench.rows("SELECT channel, state, reason FROM outbox WHERE order_id = $1", order)
        return {row["channel"]: (row["state"], row["reason"]) for row in rows}

    with run_pipeline(notifications_grace_window_s="0"):
        await bench.publish(order_event("o-1"))
        status = await bench.until_quiet(1)
        assert await states("o-1") == {"sms": ("suppressed", "blocked"), "email": ("accepted", None)}
        assert status.accounting.balances

        [mail] = await bench.mails()
        mailbox = tmp_path / "bounces"
        message_id = dict(mail["parsed"]["headers"])["Message-ID"]
        mailbox.write_text(BOUNCE.format(recipient=ADDRESS, message_id=message_id))
        read = postorder("bounces", "read", str(mailbox), *config)
        assert read.stdout.split("\n")[:3] == ["applied: 1", "mails: 1", "taken_off: 1"]
        record = await last_done(bench.cluster, "bounces.read")
        assert record.detail == "applied: 1, mails: 1, taken_off: 1"
        assert (await states("o-1"))["email"][0] == "undelivered"
        row = json.loads(postorder("recipients", "show", ADDRESS, "--json", *config).stdout)
        assert (row["state"], row["reason"], row["channel"]) == ("out", "bounce:5.1.1", "email")

        assert "gets messages from now on" in postorder("recipients", "allow", NUMBER, *config).stdout
        customer = {"id": "c-1", "email": ADDRESS, "phone": NUMBER}
        await bench.publish(order_event("o-2", customer=customer))
        await bench.until_quiet(2)
        assert await states("o-2") == {"sms": ("accepted", None), "email": ("suppressed", "bounced")}
    [sms] = await bench.sms()
    assert sms["to"] == NUMBER


async def test_who_lifts_a_block_is_told_of_a_stop_beside_it(bench: Bench, settings_file: Path) -> None:
    config = ("--config", str(settings_file))
    recipients = Recipients(bench.cluster, clock=SystemClock())
    await recipients.set(Channel.SMS, NUMBER, Said(RecipientState.OUT, "stop"))
    said = [postorder("recipients", what, NUMBER, *config).stdout for what in ("block", "allow", "allow")]
    assert [one.split(" ", 3)[3] for one in said] == [
        "gets nothing from now on\n",
        "still gets nothing: it also said stop; `allow` once more lifts that too\n",
        "gets messages from now on\n",
    ]


@pytest.mark.parametrize("recipient", ["0170 123", "ada@", "+1", "", "ada", "+49 30 901820; +1"])
def test_what_is_neither_number_nor_address_is_refused_and_not_quoted(
    recipient: str, settings_file: Path
) -> None:
    done = postorder("recipients", "block", recipient, "--config", str(settings_file))
    assert done.returncode == 2
    assert done.stderr == (
        "postorder: RECIPIENT: must be a number in E.164, for example +4930901820, or an address\n"
    )


def test_a_mailbox_that_is_not_there_is_named(settings_file: Path, tmp_path: Path) -> None:
    done = postorder("bounces", "read", str(tmp_path / "none"), "--config", str(settings_file))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.endswith("none: no such file or folder\n")
