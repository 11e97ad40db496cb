"""The hold of a group commit: the value that acknowledgements wait for."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from engine.errors import JournalError

log = structlog.get_logger()


class CommitHold:
    """Done once its group is on disk, or could not be written: then it has ``failed``, and nothing that waits for it
    may be acknowledged.

    One hold is shared by everybody who put into the group, so that no future is made per message. It satisfies the
    protocol of holds in `broker.receipt`.
    """

    __slots__ = ("_callbacks", "done", "error")

    def __init__(self) -> None:
        self.done = False
        self.error: BaseException | None = None
        self._callbacks: list[Callable[[], None]] = []

    @property
    def waiting(self) -> int:
        """Number of callbacks that have not been called yet."""
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
        """Mark as done, or as failed with `error`, and call all callbacks. Called once, by the journal.

        A callback that raises is logged; the others are called nevertheless.
        """
        self.done = True
        self.error = error
        callbacks, self._callbacks = self._callbacks, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                log.exception("acknowledgement failed after a commit")

    async def settled(self) -> None:
        """Wait until done or failed."""
        if not self.done:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self.add_done_callback(lambda: None if future.done() else future.set_result(None))
            await future

    async def wait(self) -> None:
        """Wait until done. Raise `JournalError` when it failed."""
        await self.settled()
        if self.error is not None:
            raise JournalError(f"not written: {self.error}") from self.error
