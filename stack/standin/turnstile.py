"""A counter that can be waited for, so that nobody has to poll or sleep."""

import asyncio


class Turnstile:
    """Counts what went through and wakes whoever waits for that many."""

    def __init__(self) -> None:
        self.count = 0
        self._waiting: list[tuple[int, asyncio.Event]] = []

    def add(self) -> None:
        """Count one more."""
        self.count += 1
        if self._waiting:
            for count, event in self._waiting:
                if self.count >= count:
                    event.set()

    def reset(self) -> None:
        """Count from 0 again; whoever waits goes on waiting."""
        self.count = 0

    async def reach(self, count: int, timeout_s: float) -> bool:
        """Wait until `count` went through; return False if that took longer than `timeout_s`."""
        if self.count >= count:
            return True
        waiter = (count, asyncio.Event())
        self._waiting.append(waiter)
        try:
            async with asyncio.timeout(timeout_s):
                await waiter[1].wait()
        except TimeoutError:
            return False
        finally:
            self._waiting.remove(waiter)
        return True
