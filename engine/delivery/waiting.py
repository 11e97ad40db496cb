"""Waiting on a `Clock`: for an event with a time limit, and for anything with a deadline."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from engine.service.clock import Clock


class WakeUp:
    """An auto-reset event for one waiter: `set` wakes it, or lets its next `wait` return at once."""

    __slots__ = ("_clock", "_is_set", "_waiter")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._is_set = False
        self._waiter: asyncio.Future[None] | None = None

    def set(self) -> None:
        """Wake the waiter."""
        waiter = self._waiter
        if waiter is None:
            self._is_set = True
        elif not waiter.done():
            waiter.set_result(None)

    async def wait(self, seconds: float | None = None) -> None:
        """Wait until it is set, or until `seconds` have passed."""
        if self._is_set:
            self._is_set = False
            return
        waiter = self._waiter = asyncio.get_running_loop().create_future()
        timer = None if seconds is None else self._clock.call_later(seconds, self.set)
        try:
            await waiter
        finally:
            self._waiter = None
            if timer is not None:
                timer.cancel()


@asynccontextmanager
async def deadline(clock: Clock, seconds: float) -> AsyncIterator[None]:
    """Cancel the body when `seconds` have passed; `TimeoutError` is raised then."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(None) as limit:
        timer = clock.call_later(seconds, lambda: limit.reschedule(loop.time()))
        try:
            yield
        finally:
            timer.cancel()


def is_cancelled() -> bool:
    """Return whether this task was cancelled, now that it has caught `CancelledError`. A sink may raise one of its own,
    because its client library has cancelled a future that it awaits."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
