"""Policies of a full buffer: refuse, drop the newest, drop the oldest, each counted by name."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any, ClassVar

import pytest

from engine.delivery.journal.sqlite.worker import Answer, Job, T
from engine.errors import NotConnectedError
from engine.model.record import Batch
from engine.testing import FlakySink, InlineWorker, MemorySink, pump
from support.deliveries import SlowDisk, World, chunk, options


def away() -> FlakySink:
    return FlakySink(connects=[NotConnectedError("away")] * 10_000)


async def test_a_full_buffer_refuses_until_a_tenth_of_it_is_free(world: World) -> None:
    """Refusing must not change with every record at the limit."""
    gates: list[asyncio.Future[None]] = []

    def gate(_: Batch) -> asyncio.Future[None]:
        gates.append(asyncio.get_running_loop().create_future())
        return gates[-1]

    sink = FlakySink(writes=[gate] * 100)
    outbox = await world.open(sink, options(buffer={"max_bytes": 1000}, batch={"size": 1}))
    put = 0
    while not outbox.refusing:
        put += 1
        await world.put(outbox, chunk({"n": put, "text": "x" * 20}))
    assert outbox.status().buffered_bytes >= 1000
    assert outbox.status().refusing
    seen = []
    while outbox.refusing:
        gates[-1].set_result(None)
        await pump()
        seen.append(outbox.status().buffered_bytes)
    assert len(seen) > 1, "one record less is not enough"
    assert seen[-1] <= 900
    for _ in range(put):
        if not gates[-1].done():
            gates[-1].set_result(None)
        await pump()
    assert [row["n"] for row in sink.rows] == list(range(1, put + 1))


async def test_a_number_of_records_may_be_the_limit(world: World) -> None:
    """Some sinks are sized by rows."""
    outbox = await world.open(away(), options(buffer={"max_events": 10}))
    for n in range(10):
        assert not outbox.refusing
        await world.put(outbox, chunk(n))
    assert outbox.refusing


async def test_dropped_records_without_acknowledgement_are_counted(world: World) -> None:
    """A QoS 0 publish has no acknowledgement to refuse."""
    outbox = await world.open(away())
    outbox.drop(3)
    assert outbox.counters.emitted == 3
    assert outbox.counters.dropped_queue_full == 3
    assert outbox.status().buffered == 0


async def test_drop_newest_keeps_the_oldest(world: World) -> None:
    """Some want the beginning of an outage."""
    outbox = await world.open(away(), options(buffer={"max_events": 5, "when_full": "drop_newest"}))
    for n in range(9):
        await world.put(outbox, chunk(n))
    assert not outbox.refusing
    assert outbox.counters.dropped_newest == 4
    assert outbox.status().buffered == 5
    sink = MemorySink()
    await world.delivery.replace("s", sink, options())
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in sink.rows] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize("memory", ["1MiB", 1], ids=["from memory", "from disk"])
async def test_drop_oldest_keeps_the_newest(world: World, memory: str | int) -> None:
    """Some want the end of an outage, wherever the oldest records are."""
    config = options(buffer={"max_events": 5, "when_full": "drop_oldest", "memory_bytes": memory}, batch={"size": 1})
    outbox = await world.open(away(), config)
    for n in range(30):
        await world.put(outbox, chunk(n))
    assert outbox.status().buffered <= 6
    assert outbox.counters.dropped_oldest == 30 - outbox.status().buffered
    sink = MemorySink()
    await world.delivery.replace("s", sink, options())
    await world.advance_until(lambda: not outbox.counters.buffered)
    numbers = [row["n"] for row in sink.rows]
    assert numbers[-5:] == [25, 26, 27, 28, 29]
    assert numbers == sorted(numbers)
    assert outbox.counters.emitted == outbox.counters.delivered + outbox.counters.dropped_oldest
    assert outbox.counters.dropped == outbox.counters.dropped_oldest


async def test_drop_oldest_never_drops_records_in_flight(world: World) -> None:
    """The sink may be storing it this moment."""
    release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sink = FlakySink(writes=[lambda _: release])
    config = options(buffer={"max_events": 3, "when_full": "drop_oldest"}, batch={"size": 1})
    outbox = await world.open(sink, config)
    for n in range(10):
        await world.put(outbox, chunk(n))
    release.set_result(None)
    await world.advance_until(lambda: not outbox.counters.buffered)
    numbers = [row["n"] for row in sink.rows]
    assert numbers[0] == 0
    assert numbers[-1] == 9
    assert outbox.counters.delivered + outbox.counters.dropped_oldest == 10
    assert outbox.status().buffered_bytes == 0


async def test_dropped_records_stay_dropped_and_counted_after_a_crash(world: World, tmp_path: Path) -> None:
    """The counters add up after any restart, also where a drop was still waiting for a batch in flight."""
    sink = FlakySink(writes=[lambda _: asyncio.get_running_loop().create_future()])
    config = options(buffer={"max_events": 3, "when_full": "drop_oldest"}, batch={"size": 1})
    outbox = await world.open(sink, config)
    for n in range(10):
        await world.put(outbox, chunk(n))
    await world.journal.flush()
    await world.crash(tmp_path / "crashed")
    await world.start()
    after = MemorySink()
    outbox = await world.open(after, config)
    await world.advance_until(lambda: not outbox.counters.buffered)
    counters = outbox.counters
    assert counters.emitted == 10
    assert counters.delivered == len(after.rows)
    assert counters.emitted == counters.delivered + counters.dropped_oldest


async def test_lanes_go_on_when_the_records_before_a_barrier_are_dropped(tmp_path: Path) -> None:
    """After a change of lanes new records wait for the old ones, until these are dropped."""
    world = World(tmp_path, make_worker=SlowDisk)
    await world.start()
    outbox = await world.open(away(), options(lanes=2))
    await world.put(outbox, chunk(1, 2, lane=0), chunk(3, 4, lane=1))
    sink = MemorySink()
    SlowDisk.is_slow = True
    await world.delivery.replace("s", sink, options(lanes=1, buffer={"max_events": 2, "when_full": "drop_oldest"}))
    await world.put(outbox, chunk(5), chunk(6))
    SlowDisk.release()
    await world.clock.advance(1.0)
    assert [row["n"] for row in sink.rows] == [5, 6]
    assert outbox.counters.buffered == 0
    assert outbox.counters.dropped_oldest == 4
    await world.stop()


class FullDisk(InlineWorker):
    """A worker whose disk is full while `is_full`."""

    is_full = False
    attempts = 0

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        if FullDisk.is_full:
            FullDisk.attempts += 1
            error = sqlite3.OperationalError("database or disk is full")
            error.sqlite_errorcode = sqlite3.SQLITE_FULL
            asyncio.get_running_loop().call_soon(answer, None, error)
        else:
            super().submit(job, answer)


async def test_a_full_disk_refuses_and_is_tried_again(tmp_path: Path) -> None:
    """Nothing is acknowledged that could not be written, the process stays, and all goes on once there is room."""
    world = World(tmp_path, make_worker=FullDisk)
    await world.start()
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    FullDisk.is_full = True
    try:
        hold = await world.put(outbox, chunk(2, 3))
        assert hold.failed
        assert outbox.refusing
        assert "full" in (world.journal.failing or "")
        await world.clock.advance(10.0)
        assert outbox.refusing
    finally:
        FullDisk.is_full = False
    await world.clock.advance(2.0)
    assert not outbox.refusing
    assert not (await world.put(outbox, chunk(4))).failed
    assert [row["n"] for row in sink.rows] == [1, 4]
    assert [record.seq for record in sink.records] == [1, 2]
    counters = outbox.counters
    assert counters.dropped_unwritten == 2
    assert counters.emitted == counters.delivered + counters.dropped == 4
    assert outbox.status().buffered_bytes == 0
    await world.stop()


async def test_dead_letters_and_cursors_wait_for_a_disk_that_is_full(tmp_path: Path) -> None:
    """Positions and dead letters of the time when the disk was full are stored once it can be written."""
    world = World(tmp_path, make_worker=FullDisk)
    await world.start()
    release: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    outbox = await world.open(FlakySink(writes=[lambda _: release]), options(retry={"max_unknown": 1}))
    await world.put(outbox, chunk(1))
    FullDisk.is_full = True
    try:
        release.set_result(ValueError("bug"))
        await world.clock.advance(5.0)
        assert outbox.counters.dead_lettered == 1
    finally:
        FullDisk.is_full = False
    await world.clock.advance(2.0)
    assert [letter.row["n"] for letter in await world.delivery.dead_letters("s")] == [1]
    await world.stop()


class DyingDisk(InlineWorker):
    """Takes its time, while `answers` is a list, and then is full."""

    answers: ClassVar[list[Answer[Any]] | None] = None

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        if DyingDisk.answers is None:
            super().submit(job, answer)
        else:
            DyingDisk.answers.append(answer)


async def test_a_commit_that_fails_while_lanes_change_keeps_the_order(tmp_path: Path) -> None:
    """Records after the change get the numbers of those that could not be written. They must wait all the same for
    records before the change that are still in their old lane."""
    world = World(tmp_path, make_worker=DyingDisk)
    await world.start()
    outbox = await world.open(away(), options(lanes=2))
    await world.put(outbox, chunk("first", client="c", lane=1))
    DyingDisk.answers = []
    await world.put(outbox, chunk(1, 2, 3, client="d", lane=0))
    answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sink = FlakySink(writes=[lambda _: answer])
    await world.delivery.replace("s", sink, options(lanes=1))
    answers, DyingDisk.answers = DyingDisk.answers, None
    for refuse in answers:
        refuse(None, OSError("full"))
    await world.clock.advance(2.0)
    await world.put(outbox, chunk("second", client="c", lane=1))
    await pump()
    answer.set_result(None)
    await pump()
    assert [row["n"] for row in sink.rows] == ["first", "second"]
    assert [batch.lane for batch in sink.attempts] == [1, 0]
    await world.stop()


async def test_a_disk_that_refuses_is_not_tried_without_a_pause(tmp_path: Path) -> None:
    """Dead letters that wait for it are no reason to try again at once: that would take a whole core."""
    world = World(tmp_path, make_worker=FullDisk)
    await world.start()
    outbox = await world.open(FlakySink(writes=[ValueError("bug")] * 3), options(retry={"max_unknown": 1}))
    await world.put(outbox, chunk(1))
    FullDisk.is_full = True
    try:
        FullDisk.attempts = 0
        outbox.put(chunk({"n": object()}))
        await world.clock.advance(10.0)
        assert FullDisk.attempts < 20
    finally:
        FullDisk.is_full = False
    await world.clock.advance(2.0)
    assert len(await world.delivery.dead_letters("s")) == 2
    await world.stop()
