"""What a mail costs, in CPU time of this process: words, bytes, SMTP, signatures, invoices.

    python scripts/measure_mail.py

The SMTP sink runs as a process of its own. Of several runs the fastest counts: whatever else the machine does
only makes one slower. A fixed calculation is timed too, so that figures of different moments can be compared.
"""

import asyncio
import base64
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import uvloop

from pipeline.clock import SystemClock
from pipeline.notifications.mail import address
from pipeline.notifications.mail.invoice_pdf import invoice_pdf
from pipeline.notifications.mail.mime import MailWriter
from pipeline.notifications.mail.quoted_printable import encode
from pipeline.notifications.mail.samples import SAMPLE_TO, SAMPLE_URL, sample_claim, sample_invoice
from pipeline.notifications.mail.signature import signer_of
from pipeline.notifications.mail.templates import Templates
from pipeline.notifications.providers.smtp import SmtpProvider
from pipeline.settings import EmailSettings
from pipeline.storage.outbox import Kind

RUNS = 7
MAILS = 4000
CONNECTIONS = 16
NOW = datetime.now(UTC)
ROOT = Path(__file__).parents[1]


def cost_us(work: Callable[[], object], times: int) -> float:
    """Return the CPU time of one call in microseconds, of the fastest run."""
    found = []
    for _ in range(RUNS):
        began = time.process_time()
        for _ in range(times):
            work()
        found.append((time.process_time() - began) / times * 1e6)
    return min(found)


def calibration() -> int:
    """Calculate something, always the same."""
    return sum(number * number for number in range(10_000))


async def smtp(provider: SmtpProvider, templates: Templates, *, composed: bool) -> float:
    """Send mails over several connections; return the CPU time of one in microseconds."""
    claim = sample_claim(Kind.ORDER_EMAIL, "en")
    ready = templates.email(claim, SAMPLE_TO, (), SAMPLE_URL)
    numbers = iter(range(MAILS))

    async def worker() -> None:
        for number in numbers:
            if composed:
                to = address.email_address(SAMPLE_TO)
                mail = templates.email(claim, to, (), SAMPLE_URL)
            else:
                mail = ready
            await provider.send(msgspec.structs.replace(mail, effect_id=f"{number:032x}"))

    began = time.process_time()
    await asyncio.gather(*(worker() for _ in range(CONNECTIONS)))
    return (time.process_time() - began) / MAILS * 1e6


async def all_smtp(port: int, templates: Templates) -> list[tuple[str, float]]:
    """Measure sending, without and with composing."""
    settings = EmailSettings(host="127.0.0.1", port=port, tls="none", mails_per_connection=1_000_000)
    provider = SmtpProvider(settings, sender_name="Shop", clock=SystemClock())
    rows = []
    for what, composed in (("MIME and SMTP", False), ("address, words, MIME and SMTP", True)):
        costs = [await smtp(provider, templates, composed=composed) for _ in range(RUNS)]
        rows.append((f"{what}, {CONNECTIONS} connections", min(costs)))
    await provider.close()
    return rows


def composing(templates: Templates) -> list[tuple[str, float]]:
    """Measure what needs no relay."""
    writer = MailWriter(sender="orders@shop.example", sender_name="Shop")
    rows = [("calibration: 10,000 squares", cost_us(calibration, 100))]
    for locale in templates.languages:
        claim = sample_claim(Kind.ORDER_EMAIL, locale)
        mail = templates.email(claim, SAMPLE_TO, (), SAMPLE_URL)
        both = cost_us(
            lambda claim=claim: writer.write(templates.email(claim, SAMPLE_TO, (), SAMPLE_URL), NOW), 500
        )
        rows.append((f"words and MIME, {locale}, {len(writer.write(mail, NOW)):,} bytes", both))
    claim = sample_claim(Kind.ORDER_EMAIL, "en")
    read = templates.read(claim, SAMPLE_URL)
    rows.append(("the same by Jinja, not encoded", cost_us(lambda: templates.read(claim, SAMPLE_URL), 200)))
    rows.append(("encoding the same by b2a_qp", cost_us(lambda: (encode(read.text), encode(read.html)), 200)))
    rows.append(("a plain address", cost_us(lambda: address.email_address(SAMPLE_TO), 2000)))
    rows.append(("a plain address, by email-validator", cost_us(lambda: address._judged(SAMPLE_TO), 200)))  # noqa: SLF001
    for locale in ("de", "hi"):
        facts = templates.invoice(sample_claim(Kind.INVOICE_EMAIL, locale), sample_invoice())
        rows.append((f"an invoice as PDF, {locale}", cost_us(lambda facts=facts: invoice_pdf(facts), 10)))
    text = writer.write(templates.email(claim, SAMPLE_TO, (), SAMPLE_URL), NOW)
    for name, key in (("RSA, 2048 bits", rsa_key()), ("Ed25519", base64.b64encode(b"7" * 32).decode())):
        sign = signer_of(EmailSettings(dkim_domain="shop.example", dkim_selector="s", dkim_key=key))
        assert sign is not None
        rows.append((f"a signature, {name}", cost_us(lambda sign=sign: sign(text), 20)))
    return rows


def rsa_key() -> str:
    """Return a private key."""
    command = ["openssl", "genrsa", "-traditional", "2048"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def main() -> int:
    """Measure and print."""
    templates = Templates(shop="Postorder Shop")
    rows = composing(templates)
    command = [
        sys.executable,
        "-m",
        "stack.smtp.sink",
        "--port",
        "0",
        "--api-port",
        "0",
        "--memory-mib-max",
        "64",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) as sink:
        try:
            assert sink.stdout is not None
            port = int(sink.stdout.readline().split()[1].rpartition(":")[2])
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                rows += runner.run(all_smtp(port, templates))
        finally:
            sink.terminate()
    for what, cost in rows:
        print(f"{cost:10,.1f} µs  {what}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
