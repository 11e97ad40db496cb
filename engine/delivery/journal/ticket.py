"""What waits for a group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from engine.errors import JournalError

log = structlog.get_logger()


class Ticket:
    """Done once its group is on disk, or cannot be written: then it has ``failed`` and nothing may be acknowledged.

    One is shared by all who put into the group.
    """

    __slots__ = ("_callbacks", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def waiting(self) -> int:
        """How many have asked to be called."""
        return len(self._callbacks)

    @property
    def failed(self) -> bool:
        return self.error is not None

    def add_done_callback(self, callback: Callable[[], None], /) -> None:
        """Call `callback` on the event loop when done; at once when done already."""
        if self.done:
            callback()
        else:
            self._callbacks.append(callback)

    def complete(self, error: BaseException | None = None) -> None:
        """Tell all who wait. Called once, by the journal."""
        self.done = True
        self.error = error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.exception("an acknowledgement could not be released")

    async def settled(self) -> None:
        """Wait until done, one way or the other."""
        if not self.done:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.add_done_callback(lambda: None if future.done() else future.set_result(None))
            await future

    async def wait(self) -> None:
        """Wait until done; raises `JournalError` when failed."""
        await self.settled()
        if self.error is not None:
            raise JournalError(f"not written: {self.error}") from self.error
