"""A thread with a database connection of its own: jobs go in, answers come back on the event loop, in order."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol, TypeVar

T = TypeVar("T")
Job = Callable[[sqlite3.Connection], T]
Answer = Callable[[T | None, BaseException | None], None]
"""Called on the event loop with the job's result, or with what it raised."""


class Worker(Protocol):
    """Runs jobs one after the other."""

    def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        """Begin; `connect` is called in the worker, before the first job."""

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        """Run `job` once those before it are done."""

    def stop(self) -> None:
        """Run what was submitted, close the connection, end. Blocks that long; no answer comes after it."""


class ThreadWorker:
    """The worker of production: one daemon thread, so that a disk that hangs can't keep the process from ending."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._jobs: SimpleQueue[tuple[Job[Any], Answer[Any]] | None] = SimpleQueue()
        self._thread: threading.Thread | None = None

    def start(self, connect: Callable[[], sqlite3.Connection]) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread = threading.Thread(target=self._run, args=(connect,), name=self._name, daemon=True)
        self._thread.start()

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
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
            del entry, job, answer, result, error
        if db is not None:
            db.close()

    def _reply(self, answer: Answer[Any], result: Any, error: BaseException | None) -> None:
        try:
            self._loop.call_soon_threadsafe(answer, result, error)
        except RuntimeError:
            # The loop has ended without stopping us; nobody is left to be told.
            return


async def ask(worker: Worker, job: Job[T]) -> T:
    """Run `job` in `worker` and wait for its result. Cancelling stops the waiting, not the job."""
    future: asyncio.Future[T] = asyncio.get_running_loop().create_future()

    def answer(result: T | None, error: BaseException | None) -> None:
        if future.cancelled():
            return
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)  # type: ignore[arg-type]  # None is a result of its own kind

    worker.submit(job, answer)
    return await future
