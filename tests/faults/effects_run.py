"""One run of the effects matrix: a sender ends at a step, another one comes, and the world is counted."""

import asyncio
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import orjson
import psutil
from effects_cells import (
    MESSAGES,
    ORDERS,
    OUTCOMES,
    PER_CELL,
    Death,
    Effect,
    Outcome,
    faults_of_mail,
    faults_of_sms,
)
from flow import Flow
from real_stack import Bench, order_event

from loadtest.pipeline_process import PipelineProcess, PipelineProcessError

PROGRAM = str(Path(__file__).with_name("sending.py"))
LEASE_S = 4.0
SETTLE_S = 25.0
LOCKED_S = LEASE_S + 3
SETTINGS = {
    "notifications_lease_s": str(LEASE_S),
    "notifications_sweep_interval_s": "0.2",
    # So that a claim that is held at a point leaves room in the pool for that of the other shard.
    "notifications_claim_max": str(ORDERS),
    "effects_ask_after_s": str(LEASE_S + 1.5),
    "effects_ask_interval_s": "0.5",
    "notifications_retry_base_s": "0.05",
    "notifications_retry_ceiling_s": "0.2",
    "sms_timeout_s": "1",
    "sms_connect_timeout_s": "1",
    "email_timeout_s": "1",
    "documents_timeout_s": "1",
    # A cell is a crowd of faults: nobody is to be slowed down for them.
    "sms_concurrency_min": "32",
    "email_concurrency_min": "16",
    "pools_breaker_failure_ratio": "1",
    "pools_breaker_open_s": "0.1",
    "pools_retries_per_minute_min": "1000",
}
_CLAIM_LOOPS = 4  # two channels on two shards
_UNSETTLED = "SELECT count(*) AS n FROM outbox WHERE state IN ('pending', 'submitting', 'unknown')"
_EFFECTS = """
SELECT o.effect_id, o.order_id, o.channel, o.state, o.provider_id,
       array(SELECT what FROM effect_note n WHERE n.slot = o.slot AND n.effect_id = o.effect_id) AS notes
FROM outbox o"""


def outcome_of(number: int) -> Outcome:
    return OUTCOMES[number // PER_CELL]


def phone_of(number: int) -> str:
    return f"+4915112345{number:03d}"


def address_of(number: int) -> str:
    return f"o-{number}@example.com"


class EffectsRun:
    """One sender that ends, one that lives; `death`: how, `step`: where."""

    def __init__(
        self, bench: Bench, run_pipeline: Callable[..., Any], folder: Path, death: Death, step: str
    ) -> None:
        self._bench = bench
        self._run_pipeline = run_pipeline
        self._file = folder / "receipts"
        self._death = death
        self._step = step

    async def effects(self, mutation: str = "") -> list[Effect]:
        """Do it, and return what became of each message."""
        await self._owe()
        await self._behave()
        if self._death == "lives":
            with self._survivor(mutation):
                await self._until_settled(SETTLE_S)
            return await self._count()
        with self._sender(mutation) as dying:
            try:
                await self._until_ended(dying)
                with self._survivor(mutation):
                    await self._until_settled(LOCKED_S if self._holds_locks else SETTLE_S)
                    if self._death == "stop":
                        await self._go_on(dying)
                        await self._until_settled(SETTLE_S)
            finally:
                with suppress(psutil.NoSuchProcess, PipelineProcessError):
                    psutil.Process(dying.pid).resume()
        return await self._count()

    @property
    def _holds_locks(self) -> bool:
        """Whether the sleeper's transactions lock what it claimed, so that nobody else can settle it."""
        return (self._death, self._step) == ("stop", "before_commit")

    # --- steps ----------------------------------------------------------------------------------------

    async def _owe(self) -> None:
        """Have real intake owe an SMS and a mail for each order, all due now."""
        flow = Flow(self._bench)
        await flow.processor.start()
        for number in range(ORDERS):
            customer = {
                "id": f"c-{number}",
                "name": "Ada Example",
                "email": address_of(number),
                "phone": phone_of(number),
            }
            flow.give(orjson.dumps(order_event(f"o-{number}", customer=customer)))
        await flow.until_acknowledged(ORDERS)
        await flow.processor.stop()
        await self._bench.execute("UPDATE outbox SET due_at = now()")

    async def _behave(self) -> None:
        held = self._step == "request_written"
        sms = [rule for n in range(ORDERS) for rule in faults_of_sms(outcome_of(n), phone_of(n), held=held)]
        mail = [
            rule
            for n in range(ORDERS)
            for rule in faults_of_mail(outcome_of(n), address_of(n), held=held, death=self._death)
        ]
        await self._bench.twilio("behaviour", {"faults": sms})
        await self._bench.smtp("behaviour", {"faults": mail})

    def _sender(self, mutation: str) -> Any:
        count = _CLAIM_LOOPS if self._step == "before_claim" else MESSAGES
        how = "SIGKILL" if self._death == "kill" else "SIGSTOP"
        what = ":".join(filter(None, (self._step, str(count), how, mutation)))
        return self._run_pipeline(
            "--only", "notifications", program=(PROGRAM, what, str(self._file)), **SETTINGS
        )

    def _survivor(self, mutation: str) -> Any:
        program = (PROGRAM, f"none:0:SIGKILL:{mutation}") if mutation else ("-m", "consumers")
        return self._run_pipeline("--only", "notifications", program=program, **SETTINGS)

    async def _until_ended(self, dying: PipelineProcess) -> None:
        if self._step == "request_written":
            await self._bench.until(self._all_held, "every request is with its provider")
            psutil.Process(dying.pid).send_signal(signal.SIGKILL if self._death == "kill" else signal.SIGSTOP)
        if self._death == "kill":
            assert await asyncio.to_thread(dying.wait_ended, 20) == -signal.SIGKILL
            return

        async def stopped() -> bool:
            return psutil.Process(dying.pid).status() == psutil.STATUS_STOPPED

        await self._bench.until(stopped, f"the sender stops at {self._step}")

    async def _all_held(self) -> bool:
        fired = [
            rule["fired"]
            for api in (self._bench.twilio, self._bench.smtp)
            for rule in (await api("faults"))["faults"]
        ]
        return sum(fired) == MESSAGES

    async def _until_settled(self, timeout_s: float) -> None:
        """Wait until nothing is open or unknown, or for so long: what is left then is judged as it is."""
        deadline = time.monotonic() + timeout_s
        while await self._rows(_UNSETTLED) and time.monotonic() < deadline:  # noqa: ASYNC110
            await asyncio.sleep(0.05)

    async def _rows(self, sql: str) -> int:
        return sum(row["n"] for row in await self._bench.rows(sql))

    async def _go_on(self, sleeper: PipelineProcess) -> None:
        """Wake the stopped sender after its lease, wait until it has an answer to everything, and end it."""
        psutil.Process(sleeper.pid).resume()
        if self._step != "before_claim":

            async def told() -> bool:
                return self._file.exists()

            await self._bench.until(told, "the sender that slept comes to its receipts")
        await asyncio.to_thread(sleeper.stop, signal.SIGTERM)
        assert sleeper.exit_status == 0

    async def _count(self) -> list[Effect]:
        ids: dict[tuple[str, str], list[str]] = {}
        for message in await self._bench.sms():
            ids.setdefault(("sms", message["to"]), []).append(message["sid"])
        for mail in (await self._bench.smtp("messages?limit=500"))["messages"]:
            ids.setdefault(("email", mail["rcpt_tos"][0]), []).append(mail["message_id"])
        found = []
        for row in await self._bench.rows(_EFFECTS):
            number = int(row["order_id"].removeprefix("o-"))
            to = phone_of(number) if row["channel"] == "sms" else address_of(number)
            found.append(
                Effect(
                    channel=row["channel"],
                    outcome=outcome_of(number),
                    state=row["state"],
                    provider_id=row["provider_id"],
                    ids=tuple(ids.get((row["channel"], to), ())),
                    notes=tuple(row["notes"]),
                )
            )
        return found
