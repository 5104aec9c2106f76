"""What a status callback costs the public listener, and a seal the sender: CPU time, without the database.

    python scripts/measure_public_listener.py

The listener runs in this process; another one posts genuine callbacks on eight connections.
"""

import asyncio
import sys
import time
from multiprocessing import get_context
from pathlib import Path
from timeit import repeat
from urllib.parse import urlencode
from uuid import uuid4

import uvloop

from pipeline.notifications.callbacks.seals import Seals
from stack.twilio.signature import sign

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

REQUESTS, CONNECTIONS, ROUNDS = 1000, 8, 10


def requests() -> list[bytes]:
    """Return genuine callbacks as bytes."""
    from public_site import BASE_URL, SECRET, SLOT, TOKEN, status_fields  # noqa: PLC0415

    made = []
    for _ in range(REQUESTS):
        path = f"/twilio/status/{Seals([SECRET]).seal(SLOT, uuid4(), 1)}"
        fields = status_fields()
        body = urlencode(fields)
        made.append(
            f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-www-form-urlencoded; "
            f"charset=UTF-8\r\nX-Twilio-Signature: {sign(TOKEN, BASE_URL + path, fields)}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )
    return made


async def _post(port: int, share: list[bytes]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for request in share:
        writer.write(request)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 204"), head
    writer.close()


def post_all(port: int, made: list[bytes]) -> None:
    """Post every request, in the other process."""

    async def all_at_once() -> None:
        await asyncio.gather(*(_post(port, made[place::CONNECTIONS]) for place in range(CONNECTIONS)))

    uvloop.run(all_at_once())


async def measure() -> None:
    """Print what it cost in the best of some rounds."""
    from public_site import running_site  # noqa: PLC0415

    made, best, rate = requests(), float("inf"), 0.0
    async with running_site() as site:
        for _ in range(ROUNDS):
            client = get_context("fork").Process(target=post_all, args=(site.port, made))
            began, cpu = time.perf_counter(), time.process_time()
            client.start()
            await asyncio.to_thread(client.join)
            best = min(best, (time.process_time() - cpu) / REQUESTS)
            rate = max(rate, REQUESTS / (time.perf_counter() - began))
        assert len(site.taken.words) == ROUNDS * REQUESTS
    print(f"a callback: {best * 1e6:.0f} us of CPU; {rate:.0f} a second, client included")


def main() -> int:
    """Measure both."""
    seals, effect_id = Seals(["s" * 32]), uuid4()
    best = min(repeat(lambda: seals.seal(77, effect_id, 1), number=200, repeat=500)) / 200
    print(f"a seal: {best * 1e6:.1f} us")
    uvloop.run(measure())
    return 0


if __name__ == "__main__":
    sys.exit(main())
