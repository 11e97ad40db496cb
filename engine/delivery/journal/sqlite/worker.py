"""A thread with a database connection of its own. Jobs are run in order, and answered on the event loop.

The event loop gives up the interpreter lock on purpose while a job is under way. A busy loop releases the lock many
times a millisecond (at each read and write), but takes it back before the thread has woken up, and Python's switch
interval begins anew at each release, so that it never runs out. Measured with a loop that was never idle, a commit of
half a millisecond took hundreds of milliseconds, and sometimes did not end. Therefore the loop sleeps once a
millisecond for `NAP_S`, just long enough for the thread to take the lock where it wants it. A commit then takes 1.2 ms,
and 4 ms at the 99th percentile.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

NAP_EVERY_S = 0.001
"""A commit needs the lock a few times, once for each statement, and waits for the disk without it."""

NAP_S = 0.00002
"""2 % of the loop's time while a job is under way. A thread that waits for the lock is woken within that time."""

SWITCH_INTERVAL_S = 0.001
"""Longest wait of the event loop for a job that computes (decoding a backlog). Python's default is 5 ms."""

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
Answer = Callable[[T | None, BaseException | None], None]
"""Called on the event loop with the result of a job, or with the exception that it raised."""


class Worker(Protocol):
    """Runs jobs one after the other."""

    def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Start; `connect` is called in the worker, before the first job."""

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        """Run `job` after those submitted before it."""

    def stop(self) -> None:
        """Run the jobs that were submitted, close the connection, and end. Blocks that long."""


class ThreadWorker:
    """A worker in a thread. It is a daemon thread, so that a disk that hangs cannot keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[tuple[Job[Any], Answer[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._pending = 0
        self._napper: asyncio.TimerHandle | None = None

    def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        sys.setswitchinterval(min(sys.getswitchinterval(), SWITCH_INTERVAL_S))
        self._thread = threading.Thread(target=self._run, args=(connect,), name=self._name, daemon=True)
        self._thread.start()

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        self._pending += 1
        if self._napper is None:
            self._napper = self._loop.call_later(NAP_EVERY_S, self._nap)
        self._jobs.put((job, answer))

    def stop(self) -> None:
        if self._thread is not None:
            self._jobs.put(None)
            self._thread.join()
            self._thread = None

    def _run(self, connect: Callable[[], sqlite3.Connection]) -> None:
        db: sqlite3.Connection | None = None
        while (entry := self._jobs.get()) is not None:
            job, answer = entry
            try:
                if db is None:
                    db = connect()
                result, error = job(db), None
            except BaseException as caught:
                result, error = None, caught
            self._reply(answer, result, error)
            # While the thread waits for the next job, these names would keep the rows of the last one in memory.
            del entry, job, answer, result, error
        if db is not None:
            db.close()

    def _nap(self) -> None:
        self._napper = None
        if self._pending:
            time.sleep(NAP_S)
            self._napper = self._loop.call_later(NAP_EVERY_S, self._nap)

    def _answer(self, answer: Answer[Any], result: Any, error: BaseException | None) -> None:
        self._pending -= 1
        if not self._pending and self._napper is not None:
            self._napper.cancel()
            self._napper = None
        answer(result, error)

    def _reply(self, answer: Answer[Any], result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self._answer, answer, result, error)
        except RuntimeError:
            # The loop has ended without `stop`: no caller waits for the answer any more.
            return


async def ask(worker: Worker, job: Job[T]) -> T:
    """Run `job` in `worker` and return its result. Cancelling ends the waiting, not the job."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def answer(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # a job may return None

    worker.submit(job, answer)
    return await future
