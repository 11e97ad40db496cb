"""Repair of a damaged file while the process goes on.

Damage is found by the writer or by a reader. The file is then moved to quarantine and replaced by a new one with
everything that can be read of it, while nothing is committed. Positions and counters in memory are newer than those of
the file, and are written anew afterwards. Groups fill meanwhile, readers wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog

from engine.delivery.journal.committer import Committer
from engine.delivery.journal.recovery import RecoveryReport
from engine.delivery.journal.sqlite.store import SqliteStore
from engine.errors import JournalError
from engine.service.clock import Clock
from engine.service.tasks import Tasks

log = structlog.get_logger()


class Repair:
    """Replaces the file of `store`; at most one repair runs at a time."""

    def __init__(
        self,
        store: SqliteStore,
        committer: Committer,
        clock: Clock,
        on_end: Callable[[RecoveryReport | None], None],
    ) -> None:
        """`on_end` is called with the report of each repair, or with None where the file could not be replaced."""
        self._store = store
        self._committer = committer
        self._clock = clock
        self._on_end = on_end
        self._tasks = Tasks("journal")
        self._finished = asyncio.Event()
        self._finished.set()

    @property
    def is_running(self) -> bool:
        return not self._finished.is_set()

    def start(self, reason: str) -> None:
        """Replace the file as soon as no commit is under way."""
        if not self.is_running:
            self._finished.clear()
            self._committer.close()
            self._tasks.spawn(self._run(reason), "repair")

    async def finished(self) -> None:
        """Wait until no repair is running."""
        await self._finished.wait()

    async def _run(self, reason: str) -> None:
        report: RecoveryReport | None = None
        try:
            if self._committer.under_way is not None:
                await self._committer.under_way.settled()
            report = await self._store.rescue(reason, self._clock.now_ms())
        except JournalError as error:
            log.error("damaged journal could not be replaced", reason=str(error))
        finally:
            self._finished.set()
            self._on_end(report)
