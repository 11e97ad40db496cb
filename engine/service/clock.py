"""The clock. Code that waits or reads the time takes a `Clock`, so that a test can run a day in a millisecond."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol


class Timer(Protocol):
    """A scheduled call."""

    def cancel(self) -> None:
        """Cancel the call; has no effect after it was made."""


class Clock(Protocol):
    """Wall time, monotonic time, sleeping and calls at a later time."""

    def now_ms(self) -> int:
        """Return the milliseconds since 1970, UTC."""

    def monotonic(self) -> float:
        """Return seconds that never decrease."""

    async def sleep(self, seconds: float) -> None:
        """Wait for `seconds`; can be cancelled."""

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        """Schedule `callback` on the event loop after `seconds`."""


class SystemClock:
    """The machine's own clock."""

    def now_ms(self) -> int:
        return time.time_ns() // 1_000_000

    def monotonic(self) -> float:
        return time.monotonic()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> Timer:
        return asyncio.get_running_loop().call_later(seconds, callback)
