"""A thread of a sink's own, for libraries and files that block: what waits together is worked on together.

One sink has one such thread, so what it owns (a database connection, open files) is touched by it alone. Lanes hand
it their batches; all that came while it was busy is the next round, which is what lets several lanes share one
transaction or one fsync. Jobs keep the order they came in.

A caller that gives up takes its job back when it has not begun; one under way runs on, and its answer goes nowhere.
A thread that is stuck in the operating system is left behind: it is a daemon, and `stop` waits a bounded time.
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
"""Longest wait for the job under way when a sink is closed."""


@dataclass(eq=False, slots=True)
class _Job:
    """One thing to do: an item of the next round, or a function that has its turn alone."""

    future: asyncio.Future[Any]
    item: Any = None
    function: Callable[[], Any] | None = None
    is_last: bool = False


class WriterThread(Generic[Item, Answer]):
    """Runs ``work(items)`` in its thread; it answers each item with a value, or with the exception to raise for it.

    ``due`` is called before every wait: it does what has become due and says in how many seconds to call it again.
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
        """Have `item` worked on, together with what else waits. Cancelling takes it back unless it has begun."""
        answer: Answer = await self._await(_Job(self._future(), item=item))
        return answer

    async def call(self, function: Callable[[], Result]) -> Result:
        """Run `function` in the thread, when what came before it is done."""
        result: Result = await self._await(_Job(self._future(), function=function))
        return result

    async def stop(self, last: Callable[[], None]) -> None:
        """Run `last` after everything that waits, and end the thread. Fine before anything ran, and twice."""
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
            log.warning("a sink's thread does not end; left behind", thread=self._name)

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
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
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
        """The first job alone if it is a function, else all items up to the next function."""
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
