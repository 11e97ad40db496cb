"""A sink's own thread, for blocking libraries and files. Items that wait at the same time are processed together.

A sink has one such thread, and only that thread touches the connection or the files it owns. Lanes submit their
batches; all items that arrived while the thread was busy form the next round, so that several lanes share one
transaction or one fsync. Jobs run in the order they were submitted.

A cancelled caller withdraws its job unless it has begun; a job under way runs on, and its result is discarded.
A thread that is stuck in a system call is abandoned: it is a daemon, and `stop` waits a bounded time.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import structlog

from engine.errors import NotConnectedError

log = structlog.get_logger()

Item = TypeVar("Item")
Answer = TypeVar("Answer")
Result = TypeVar("Result")

STOP_TIMEOUT_S = 5.0
"""Longest wait for the job under way when a sink is closed: half of what a stop of the service allows all sinks."""


@dataclass(eq=False, slots=True)
class _Job:
    """An item of the next round, or a function that runs alone."""

    future: asyncio.Future[Any]
    item: Any = None
    function: Callable[[], Any] | None = None
    is_last: bool = False


class WriterThread(Generic[Item, Answer]):
    """Runs ``work(items)`` in its thread, which returns a result or an exception for each item.

    ``due`` is called before every wait. It does timed work, and returns the seconds until it is to be called again.
    """

    def __init__(
        self,
        name: str,
        work: Callable[[list[Item]], Sequence[Answer | Exception]],
        due: Callable[[], float | None] = lambda: None,
    ) -> None:
        self._name = name
        self._work = work
        self._due = due
        self._waiting: deque[_Job] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop
        self._stopped = False

    async def submit(self, item: Item) -> Answer:
        """Process `item` with all others that wait; return its result. Cancelling withdraws it unless it has begun."""
        answer: Answer = await self._await(_Job(self._future(), item=item))
        return answer

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run `function` in the thread after all earlier jobs, and return its result."""
        result: Result = await self._await(_Job(self._future(), function=function))
        return result

    async def stop(self, last: Callable[[], None]) -> None:
        """Run `last` after all jobs, and end the thread. May be called before the first job, and again."""
        if self._stopped:
            return
        self._stopped = True
        if self._thread is None:
            return
        job = _Job(self._future(), function=last, is_last=True)
        self._append(job)
        try:
            async with asyncio.timeout(STOP_TIMEOUT_S):
                await job.future
        except TimeoutError:
            log.warning("sink thread did not end; abandoned", thread=self._name)

    def _future(self) -> asyncio.Future[Any]:
        return asyncio.get_running_loop().create_future()

    async def _await(self, job: _Job) -> Any:
        if self._stopped:
            raise NotConnectedError("the sink is closed")
        self._append(job)
        try:
            return await job.future
        except asyncio.CancelledError:
            with self._changed, suppress(ValueError):
                self._waiting.remove(job)
            raise

    def _append(self, job: _Job) -> None:
        with self._changed:
            self._waiting.append(job)
            self._changed.notify()
        if self._thread is None:
            self._loop = asyncio.get_running_loop()
            self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
            self._thread.start()

    def _run(self) -> None:
        while True:
            jobs = self._next_round()
            answers = self._answers(jobs)
            with suppress(RuntimeError):  # the loop is closed, and nobody waits for the results
                self._loop.call_soon_threadsafe(_settle, jobs, answers)
            if jobs[0].is_last:
                return

    def _next_round(self) -> list[_Job]:
        while True:
            wait_s = self._due()
            with self._changed:
                if not self._waiting:
                    self._changed.wait(wait_s)
                jobs = self._take()
            if jobs:
                return jobs

    def _take(self) -> list[_Job]:
        """Take the first job alone if it is a function, or else all items up to the next function."""
        jobs: list[_Job] = []
        while self._waiting and not (jobs and (jobs[0].function or self._waiting[0].function)):
            jobs.append(self._waiting.popleft())
        return jobs

    def _answers(self, jobs: list[_Job]) -> Sequence[Any]:
        try:
            if jobs[0].function is not None:
                return (jobs[0].function(),)
            return self._work([job.item for job in jobs])
        except Exception as error:
            return [error] * len(jobs)


def _settle(jobs: list[_Job], answers: Sequence[Any]) -> None:
    for job, answer in zip(jobs, answers, strict=True):
        if job.future.done():
            continue
        if isinstance(answer, Exception):
            job.future.set_exception(answer)
        else:
            job.future.set_result(answer)
