"""Group commits and their holds."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from engine.delivery.journal import CommitHold, Journal, Segment
from engine.delivery.journal.journal import GROUP_BYTES
from engine.delivery.journal.sqlite.block import pack, unpack
from engine.delivery.journal.sqlite.opening import close_in_order
from engine.delivery.journal.sqlite.schema import FORMAT
from engine.delivery.journal.sqlite.worker import Answer, Job, T
from engine.errors import JournalError
from engine.model.record import Chunk
from engine.testing import FakeClock, InlineWorker, pump
from support.deliveries import SlowDisk, World, chunk


class Listener:
    """Remembers what was committed."""

    def __init__(self) -> None:
        self.segments: list[Segment] = []

    def committed(self, segment: Segment) -> None:
        self.segments.append(segment)


async def count(world: World, table: str) -> int:
    number: int = await world.journal.store.query(lambda db: db.execute(f"SELECT count(*) FROM {table}").fetchone()[0])
    return number


def append(world: World, sink: str, lane: int, *rows: int) -> None:
    item = chunk(*rows)
    world.journal.sink(sink).lane(lane).append(item, len(item.rows), len(item.encode()))


async def test_everything_put_in_one_turn_is_one_commit(world: World) -> None:
    """A publish that goes to six sinks is in all of their queues or in no queue, for one fsync."""
    before = world.journal.commits
    for sink in ("a", "b", "c"):
        for lane in range(2):
            append(world, sink, lane, 1, 2)
    hold = world.journal.hold()
    assert not hold.done
    await hold.wait()
    assert world.journal.commits == before + 1
    assert await count(world, "block") == 6


async def test_a_hold_is_shared_by_a_group_and_done_when_nothing_is_open(world: World) -> None:
    """There is no future per message."""
    assert world.journal.hold().done
    append(world, "a", 0, 1)
    first = world.journal.hold()
    append(world, "b", 0, 1)
    assert world.journal.hold() is first
    await first.wait()
    append(world, "a", 0, 2)
    assert world.journal.hold() is not first
    await world.journal.hold().wait()


async def test_a_group_fills_while_the_one_before_is_written(tmp_path: Path) -> None:
    """Groups grow with the load by themselves."""
    world = World(tmp_path, make_worker=SlowDisk)
    await world.start()
    commits = world.journal.commits
    SlowDisk.is_slow = True
    append(world, "a", 0, 1)
    await pump()
    for n in range(5):
        append(world, "a", 0, n)
        await pump()
    second = world.journal.hold()
    SlowDisk.release()
    await second.wait()
    assert world.journal.commits == commits + 2
    await world.stop()


async def test_a_group_stays_open_while_every_turn_brings_more(world: World) -> None:
    """Clients with one message in flight each come turn by turn; a commit for each would cost each of them a commit."""
    commits = world.journal.commits
    hold = world.journal.hold
    for number in range(5):
        append(world, "a", 0, number)
        hold().add_done_callback(lambda: None)
        await asyncio.sleep(0)
    await hold().wait()
    assert world.journal.commits == commits + 1


async def test_counts_of_a_rule_during_a_commit_are_stored_with_the_next(tmp_path: Path) -> None:
    """A message that only one rule filters out makes no record: nothing else would bring its count to the disk."""
    world = World(tmp_path, make_worker=SlowDisk)
    await world.start()
    rule = world.journal.rule("r")
    rule.received = rule.emitted = 1
    SlowDisk.is_slow = True
    append(world, "a", 0, 1)
    await pump()
    rule.received = 2
    rule.filtered = 1
    SlowDisk.release()
    await pump()
    await world.journal.stop()
    await world.start()
    assert (world.journal.rule("r").received, world.journal.rule("r").filtered) == (2, 1)
    await world.journal.stop()


async def test_a_disk_that_does_not_keep_up_causes_back_pressure(tmp_path: Path) -> None:
    """Publishers without acknowledgements have to wait too: records that wait for the disk are bounded in memory."""
    world = World(tmp_path, make_worker=SlowDisk)
    await world.start()
    SlowDisk.is_slow = True
    append(world, "a", 0, 1)
    await pump()
    large = chunk({"text": "x" * (1 << 20)})
    for _ in range(GROUP_BYTES >> 20):
        assert world.journal.pressure() is None
        world.journal.sink("a").lane(0).append(large, 1, len(large.encode()))
    assert world.journal.pressure() is world.journal.hold()
    SlowDisk.release()
    await world.journal.hold().wait()
    assert world.journal.pressure() is None
    await world.stop()


async def test_callbacks_are_called_once_and_at_once_when_done(world: World) -> None:
    """The broker's acknowledgements are released by them."""
    calls: list[str] = []
    append(world, "a", 0, 1)
    hold = world.journal.hold()
    hold.add_done_callback(lambda: calls.append("first"))
    hold.add_done_callback(lambda: calls.append("second"))
    assert calls == []
    await hold.wait()
    hold.add_done_callback(lambda: calls.append("late"))
    assert calls == ["first", "second", "late"]


async def test_a_callback_that_fails_does_not_keep_the_others_from_being_called() -> None:
    """The failure of one connection must not hold back the acknowledgements of others."""
    hold = CommitHold()
    calls: list[int] = []
    hold.add_done_callback(lambda: calls.remove(7))
    hold.add_done_callback(lambda: calls.append(1))
    hold.complete()
    assert calls == [1]


async def test_waiting_for_a_failed_hold_raises() -> None:
    """A caller must not take records for safe that are not."""
    hold = CommitHold()
    hold.complete(OSError("disk"))
    assert hold.failed
    with pytest.raises(JournalError, match="disk"):
        await hold.wait()


async def test_lanes_get_their_committed_records_in_order_with_their_numbers(world: World) -> None:
    """Numbers count from one within a lane, without a gap."""
    lane = world.journal.sink("a").lane(3)
    lane.listener = listener = Listener()
    for rows in ([1], [2, 3], [4, 5, 6]):
        append(world, "a", 3, *rows)
        await world.journal.hold().wait()
    assert [(s.first_seq, s.last_seq, s.rows) for s in listener.segments] == [(1, 1, 1), (2, 3, 2), (4, 6, 3)]
    reading = await world.journal.read_lane(lane, 3, 6, 1)
    assert [(s.first_seq, s.rows) for s in reading.segments] == [(2, 2)]
    assert reading.read_to == 3


async def test_positions_and_counters_are_stored_soon_though_nothing_is_put(world: World) -> None:
    """Otherwise the last records before an idle hour would be delivered again after a crash."""
    append(world, "a", 0, 1)
    await world.journal.hold().wait()
    sink = world.journal.sink("a")
    sink.lane(0).state.cursor = 1
    world.journal.touch(sink)
    before = world.journal.commits
    await world.clock.advance(0.06)
    assert world.journal.commits == before + 1
    await world.clock.advance(0.06)
    assert world.journal.commits == before + 1, "an idle journal writes nothing"


async def test_an_idle_journal_writes_nothing(world: World) -> None:
    """Disks wear out, and laptops sleep."""
    before = world.journal.commits
    await world.clock.advance(600.0)
    assert world.journal.commits == before


async def test_a_journal_may_be_stopped_twice_and_before_it_started(tmp_path: Path) -> None:
    """Code that cleans up after a failed start need not know how far it came."""
    journal = Journal(tmp_path / "j.sqlite", clock=FakeClock(), make_worker=InlineWorker)
    await journal.stop()
    await journal.start()
    await journal.stop()
    await journal.stop()


class ReluctantDisk(InlineWorker):
    """A disk that has room for everything but what closing takes."""

    def submit(self, job: Job[T], answer: Answer[T]) -> None:
        if job is close_in_order:
            asyncio.get_running_loop().call_soon(answer, None, sqlite3.OperationalError("database or disk is full"))
        else:
            super().submit(job, answer)


async def test_a_disk_that_is_full_when_the_journal_is_closed_costs_nothing(tmp_path: Path) -> None:
    """Everything is in the log beside the file, and the next start reports it. A traceback is not needed."""
    world = World(tmp_path, make_worker=ReluctantDisk)
    await world.start()
    append(world, "a", 0, 1)
    await world.journal.stop()
    assert world.journal.store._writer._db is None  # type: ignore[attr-defined]
    report = await world.start()
    assert "nothing is lost" in report.message
    assert await count(world, "block") == 1
    await world.journal.stop()


def threads_of_its_own() -> list[str]:
    """Return the names of the threads that run, without those of asyncio's pool."""
    return [thread.name for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]


async def test_starting_and_stopping_with_threads_many_times_leaves_nothing_behind(tmp_path: Path) -> None:
    """Threads, timers and files are released, also when a commit is under way."""
    before = threads_of_its_own()
    for round_ in range(15):
        journal = Journal(tmp_path / "j.sqlite")
        report = await journal.start()
        assert report.was_clean
        lane = journal.sink("a").lane(0)
        assert lane.state.next_seq == round_ + 1
        item = chunk(round_)
        lane.append(item, len(item.rows), len(item.encode()))
        hold = journal.hold()
        await asyncio.gather(journal.stop(), hold.wait())
        assert not hold.failed
    assert threads_of_its_own() == before
    assert not (tmp_path / "j.sqlite-wal").exists()


async def test_a_file_states_its_format_and_is_small_when_new(world: World) -> None:
    """An upgrade must be able to recognize the format of a file."""
    assert await world.journal.store.query(lambda db: db.execute("PRAGMA user_version").fetchone()) == (FORMAT,)
    assert await world.journal.store.query(lambda db: db.execute("PRAGMA synchronous").fetchone()) == (2,)
    assert await world.journal.store.query(lambda db: db.execute("PRAGMA journal_mode").fetchone()) == ("wal",)
    assert await world.journal.store.query(lambda db: db.execute("PRAGMA auto_vacuum").fetchone()) == (2,)


async def test_a_read_that_fails_is_a_journal_error(world: World) -> None:
    """Errors of SQLite are translated by the store."""

    def broken(db: sqlite3.Connection) -> None:
        error = sqlite3.OperationalError("disk I/O error")
        error.sqlite_errorcode = sqlite3.SQLITE_IOERR
        raise error

    with pytest.raises(JournalError, match="I/O"):
        await world.journal.store.query(broken)


def test_blocks_come_back_as_they_were_packed() -> None:
    """Records on disk are those that were put."""
    chunks = [chunk(1, 2, client="a"), chunk({"n": 2**80, "b": b"\xff"}, client="b"), chunk(*range(500))]
    unpacked = unpack(pack(chunks))
    assert [item.rows for item in unpacked] == [item.rows for item in chunks]
    assert [item.client_id for item in unpacked] == ["a", "b", "c"]


@pytest.mark.parametrize(
    "data", [b"", b"\x01", b"\x01\0\0\0", b"\x01\0\0\0\x02\0\0\0\xc0", b"\xff\xff\xff\xff", b"\0" * 5]
)
def test_data_that_is_not_a_block_is_refused(data: bytes) -> None:
    """Damage raises the documented error, and no other."""
    with pytest.raises(ValueError, match="block"):
        unpack(data)


def test_a_chunk_of_another_shape_is_refused() -> None:
    """A valid block may still hold something else than chunks."""
    with pytest.raises(ValueError, match="chunk"):
        Chunk.decode(b"\xc0")
