"""Waiting on a `Clock`: for a bell with a limit, and for anything with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.service.clock import Clock


class Bell:
    """Wakes the one who waits. A ring that nobody hears is heard by the next wait."""

    __slots__ = ("_clock", "_rung", "_waiter")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._rung = False
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        waiter = self._waiter
        if waiter is None:
            self._rung = True
        elif not waiter.done():
            waiter.set_result(None)

    async def wait(self, seconds: float | None = None) -> None:
        """Until the bell rings, or until `seconds` have passed."""
        if self._rung:
            self._rung = False
            return
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        timer = None if seconds is None else self._clock.call_later(seconds, self.ring)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


@asynccontextmanager
async def deadline(clock: Clock, seconds: float) -> AsyncIterator[None]:
    """Cancel the body when `seconds` have passed, which then raises `TimeoutError`."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = clock.call_later(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()


def is_cancelled() -> bool:
    """Whether somebody wants this task to end. A sink may raise `CancelledError` of its own: one that awaits what its
    client library has cancelled does."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
