"""Services and their tasks.

``start`` returns when the service is up, ``stop`` when it is down; stopping twice, or before starting, has no effect.
All tasks of the engine are created here, so that the failure of a task is reported to its service, not lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Protocol

import structlog

log = structlog.get_logger()


class Service(Protocol):
    """A part of the process that is started and stopped."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...


class Tasks:
    """The tasks of one service. `on_failure` is called with the exception of a task that fails."""

    def __init__(self, owner: str, on_failure: Callable[[BaseException], None] | None = None) -> None:
        self._owner = owner
        self._on_failure = on_failure
        self._running: set[asyncio.Task[Any]] = set()

    def spawn(self, work: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start `work` as a task of this owner."""
        task = asyncio.get_running_loop().create_task(work, name=f"{self._owner}:{name}")
        self._running.add(task)
        task.add_done_callback(self._ended)
        return task

    async def cancel(self) -> None:
        """Cancel all tasks and wait until they have ended."""
        running = [task for task in self._running if task is not asyncio.current_task()]
        for task in running:
            task.cancel()
        if running:
            await asyncio.gather(*running, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.discard(task)
        if task.cancelled():
            return
        error = task.exception()
        if error is not None:
            log.error("task failed", task=task.get_name(), exc_info=error)
            if self._on_failure is not None:
                self._on_failure(error)
