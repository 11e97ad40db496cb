"""The writer thread of a sink: rounds, order, cancellation and stop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from typing import Any

import pytest

from connectors._shared.thread import WriterThread
from engine.errors import NotConnectedError


class Gate:
    """Work that blocks until released, so that a test decides which items share a round."""

    def __init__(self) -> None:
        self.rounds: list[list[int]] = []
        self.entered = threading.Event()
        self.open = threading.Event()

    def work(self, items: list[int]) -> Sequence[int | Exception]:
        self.rounds.append(items)
        self.entered.set()
        assert self.open.wait(10)
        return [ValueError(str(item)) if item < 0 else item * 2 for item in items]


async def entered(gate: Gate) -> None:
    await asyncio.to_thread(gate.entered.wait, 10)


async def started(*work: Coroutine[Any, Any, Any]) -> list[asyncio.Task[Any]]:
    """Start tasks that submit the items, and wait until all are submitted."""
    tasks = [asyncio.get_running_loop().create_task(each) for each in work]
    await asyncio.sleep(0)
    return tasks


async def test_items_that_wait_together_are_one_round() -> None:
    """Several lanes share a transaction and an fsync in this way."""
    gate = Gate()
    thread: WriterThread[int, int] = WriterThread("test", gate.work)
    first = await started(thread.submit(1))
    await entered(gate)
    others = await started(thread.submit(2), thread.submit(3))
    gate.open.set()
    assert await asyncio.gather(*first, *others) == [2, 4, 6]
    assert gate.rounds == [[1], [2, 3]]
    await thread.stop(lambda: None)


async def test_exception_is_raised_to_its_own_caller() -> None:
    """A batch that fails must not fail the one it shared a round with."""
    gate = Gate()
    gate.open.set()
    thread: WriterThread[int, int] = WriterThread("test", gate.work)
    good, bad = await asyncio.gather(thread.submit(1), thread.submit(-1), return_exceptions=True)
    assert good == 2
    assert isinstance(bad, ValueError)
    await thread.stop(lambda: None)


async def test_cancelled_job_is_withdrawn_before_it_begins() -> None:
    """The lane sends a cancelled batch again, so processing it would store it twice."""
    gate = Gate()
    thread: WriterThread[int, int] = WriterThread("test", gate.work)
    (first,) = await started(thread.submit(1))
    await entered(gate)
    (second,) = await started(thread.submit(2))
    second.cancel()
    await asyncio.gather(second, return_exceptions=True)
    gate.open.set()
    assert await first == 2
    await thread.stop(lambda: None)
    assert gate.rounds == [[1]]


async def test_functions_run_alone_and_in_order() -> None:
    """Open and close keep their place between writes."""
    gate = Gate()
    log: list[str] = []
    thread: WriterThread[int, int] = WriterThread("test", gate.work)
    tasks = await started(
        thread.submit(1), thread.submit(2), thread.call(lambda: log.append("called")), thread.submit(3)
    )
    gate.open.set()
    await asyncio.gather(*tasks)
    await thread.stop(lambda: log.append("stopped"))
    assert [item for each in gate.rounds for item in each] == [1, 2, 3]
    assert [3] in gate.rounds
    assert log == ["called", "stopped"]


async def test_stop_may_be_called_before_start_and_twice() -> None:
    """The caller need not know whether the sink was started."""
    thread: WriterThread[int, int] = WriterThread("test", lambda items: items)
    await thread.stop(lambda: None)
    await thread.stop(lambda: None)
    with pytest.raises(NotConnectedError):
        await thread.submit(1)


async def test_stop_abandons_a_stuck_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hanging disk must not prevent the process from ending."""
    monkeypatch.setattr("connectors._shared.thread.STOP_TIMEOUT_S", 0.05)
    gate = Gate()
    thread: WriterThread[int, int] = WriterThread("test", gate.work)
    (task,) = await started(thread.submit(1))
    await entered(gate)
    await thread.stop(lambda: None)
    gate.open.set()
    assert await task == 2


async def test_due_work_is_done_while_idle() -> None:
    """The last rows before an idle time are synced too."""
    done = threading.Event()
    waits = iter([0.01, 0.01])

    def due() -> float | None:
        left_s = next(waits, None)
        if left_s is None:
            done.set()
        return left_s

    thread: WriterThread[int, int] = WriterThread("test", lambda items: items, due)
    assert await thread.submit(1) == 1
    assert await asyncio.to_thread(done.wait, 10)
    await thread.stop(lambda: None)
