"""What an SMS costs this process: CPU time for each message of either client, against the Twilio emulator.

    python scripts/measure_sms_client.py [--messages 20000] [--concurrency 32]

The emulator runs in a process of its own; its time does not count. Prints microseconds; what else runs on the
machine makes them more, so that the best round says most.
"""

import argparse
import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable
from statistics import median

import uvloop

from pipeline.notifications.notification import Sms
from pipeline.notifications.providers.twilio import TwilioProvider
from pipeline.notifications.sms.phone import PhonePolicy
from pipeline.notifications.sms.text import TextShaper
from pipeline.settings import SmsSettings

SID, TOKEN = "AC" + "0a" * 16, "token"
BODY = "Postorder Shop: thank you, Ada Example! Your order {} over 129.90 EUR is being prepared."
WARM_UP, ROUND = 500, 500


def message(number: int) -> Sms:
    """Return a message like the shipped template's, to a number of its own."""
    return Sms(
        effect_id=f"{number:032x}",
        to=f"+1415{2_000_000 + number % 7_000_000:07d}",
        body=BODY.format(number),
        valid_s=3600,
        callback_url="https://shop.example/twilio/status/" + "A" * 48,
    )


async def send_all(provider: TwilioProvider, messages: list[Sms], concurrency: int) -> None:
    """Send from so many tasks at once."""
    todo = iter(messages)

    async def work() -> None:
        for one in todo:
            await provider.send(one)

    async with asyncio.TaskGroup() as group:
        for _ in range(concurrency):
            group.create_task(work())


async def measure_client(client: str, url: str, count: int, concurrency: int) -> tuple[float, float]:
    """Return the CPU time of a message in microseconds: of the best round, and the median of rounds."""
    settings = SmsSettings(
        client="lean" if client == "lean" else "sdk",
        base_url=url,
        account_sid=SID,
        auth_token=TOKEN,
        from_number="+15005550006",
        concurrency=concurrency,
        connect_timeout_s=30.0,
        timeout_s=60.0,
    )
    provider = TwilioProvider(settings)
    await send_all(provider, [message(number) for number in range(WARM_UP)], concurrency)
    rounds = []
    for first in range(WARM_UP, WARM_UP + count, ROUND):
        messages = [message(number) for number in range(first, first + ROUND)]
        began = time.process_time()
        await send_all(provider, messages, concurrency)
        rounds.append((time.process_time() - began) / ROUND * 1e6)
    await provider.close()
    return min(rounds), median(rounds)


def measure_each(act: Callable[[int], object], count: int) -> float:
    """Return the CPU time of one call in microseconds."""
    for number in range(WARM_UP):
        act(number)
    began = time.process_time()
    for number in range(WARM_UP, WARM_UP + count):
        act(number)
    return (time.process_time() - began) / count * 1e6


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--messages", type=int, default=5_000)
    parser.add_argument("--concurrency", type=int, default=32)
    options = parser.parse_args()
    policy, shaper = (
        PhonePolicy(("mobile", "fixed_line_or_mobile")),
        TextShaper(segments_max=3, plain_marks=True),
    )
    command = [sys.executable, "-m", "stack.twilio.emulator", "--port", "0", "--account-sid", SID]
    environment = {**os.environ, "TWILIO_AUTH_TOKEN": TOKEN}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as emulator:
        assert emulator.stdout is not None
        url = emulator.stdout.readline().split()[1]
        try:
            for client in ("lean", "sdk"):
                best, middle = uvloop.run(measure_client(client, url, options.messages, options.concurrency))
                print(f"{client} client: {best:.0f} us in the best of the rounds, median {middle:.0f} us")
        finally:
            emulator.terminate()
    texts = [BODY.format(number) for number in range(WARM_UP + options.messages)]
    us_number = measure_each(lambda n: policy.judge(f"+1415{2_000_000 + n:07d}", "US"), options.messages)
    de_number = measure_each(lambda n: policy.judge(f"0151 2{n:07d}", "DE"), options.messages // 10)
    print(f"a number: {us_number:.0f} us in E.164, {de_number:.0f} us as dialled in its country")
    print(f"a text: {measure_each(lambda n: shaper.shape(texts[n]), options.messages):.0f} us")


if __name__ == "__main__":
    main()
