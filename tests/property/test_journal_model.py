"""The journal beside a plain model of it, under any sequence of append, commit, settle, crash and reopen."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from engine.delivery.journal import Journal, LaneLog
from engine.model.record import Chunk
from engine.testing import FakeClock, InlineWorker, pump

LANES = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 2))
Lane = tuple[str, int]
T = TypeVar("T")


class JournalModel(RuleBasedStateMachine):
    """Committed records and positions are there after any crash, and numbers have no gap."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.base = Path(tempfile.mkdtemp(prefix="journal-model"))
        self.opened = 0
        self.next_row = 0
        self.durable: dict[Lane, list[int]] = {}
        self.open: dict[Lane, list[int]] = {}
        self.cursor: dict[Lane, int] = {}
        self.stored_cursor: dict[Lane, int] = {}
        self.letters = 0

    @initialize()
    def start(self) -> None:
        self.clock = FakeClock()
        self._run(self._open(self.base / "0"))

    @rule(lane=LANES, sizes=st.lists(st.integers(1, 4), min_size=1, max_size=3))
    def append(self, lane: Lane, sizes: list[int]) -> None:
        for size in sizes:
            rows = list(range(self.next_row, self.next_row + size))
            self.next_row += size
            chunk = Chunk("r", "c", 0, 1, "t", [{"n": n} for n in rows])
            self.loop.run_until_complete(self._append(lane, chunk))
            self.open.setdefault(lane, []).extend(rows)

    @rule()
    def commit(self) -> None:
        """Everything that was put, and every position, is on disk."""
        self._run(self.journal.flush())
        for lane, rows in self.open.items():
            self.durable.setdefault(lane, []).extend(rows)
        self.open.clear()
        self.stored_cursor = dict(self.cursor)

    @precondition(lambda self: any(self.durable.values()))
    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        lane = data.draw(st.sampled_from(sorted(lane for lane, rows in self.durable.items() if rows)))
        cursor = data.draw(st.integers(self.cursor.get(lane, 0), len(self.durable[lane])))
        self._lane(lane).state.cursor = cursor
        self.journal.touch(self.journal.sink(lane[0]))
        self.cursor[lane] = cursor

    @precondition(lambda self: any(self.durable.values()))
    @rule(data=st.data(), size=st.integers(1, 300))
    def read(self, data: st.DataObject, size: int) -> None:
        """Any part of a lane reads as it was written, from any position on."""
        lane = data.draw(st.sampled_from(sorted(lane for lane, rows in self.durable.items() if rows)))
        rows = self.durable[lane]
        start = data.draw(st.integers(1, len(rows)))
        stop = data.draw(st.integers(start, len(rows)))
        reading = self._run(self.journal.read_lane(self._lane(lane), start, stop, size))
        assert start <= reading.read_to <= stop
        found = {
            segment.first_seq + index: row["n"]
            for segment in reading.segments
            for index, row in enumerate(row for chunk in segment.chunks for row in chunk.rows)
        }
        for seq in range(start, reading.read_to + 1):
            assert found[seq] == rows[seq - 1]

    @rule(clean=st.booleans())
    def reopen(self, clean: bool) -> None:
        """After a crash everything that was committed is there; what was not committed may be there."""
        directory = self.base / str(self.opened)
        if clean:
            self.commit()
            self._run(self.journal.stop())
        else:
            for file in (self.base / str(self.opened - 1)).glob("j.sqlite*"):
                if not file.name.endswith("-shm"):
                    directory.mkdir(exist_ok=True)
                    shutil.copy(file, directory / file.name)
            self._run(self.journal.abandon())
        if clean:
            directory = self.base / str(self.opened - 1)
            self.opened -= 1
        self._run(self._open(directory))
        for lane, rows in self.open.items():
            survived = self._lane(lane).committed_seq - len(self.durable.get(lane, []))
            assert 0 <= survived <= len(rows)
            self.durable.setdefault(lane, []).extend(rows[:survived])
        self.open.clear()
        for lane in self.cursor:
            found = self._lane(lane).state.cursor
            assert self.stored_cursor.get(lane, 0) <= found <= self.cursor[lane]
            self.cursor[lane] = self.stored_cursor[lane] = found

    @invariant()
    def numbers_have_no_gap(self) -> None:
        for lane, rows in self.durable.items():
            assert self._lane(lane).committed_seq >= len(rows)

    def teardown(self) -> None:
        if self.opened:
            self._run(self.journal.abandon())
        self.loop.run_until_complete(self.loop.shutdown_default_executor())
        self.loop.close()
        shutil.rmtree(self.base)

    async def _append(self, lane: Lane, chunk: Chunk) -> None:
        self._lane(lane).append(chunk, len(chunk.rows), len(chunk.encode()))

    async def _open(self, directory: Path) -> None:
        self.opened += 1
        self.journal = Journal(directory / "j.sqlite", clock=self.clock, make_worker=InlineWorker)
        report = await self.journal.start()
        assert report.quarantined is None

    def _lane(self, lane: Lane) -> LaneLog:
        return self.journal.sink(lane[0]).lane(lane[1])

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        async def run() -> T:
            result = await work
            await pump(3)
            return result

        return self.loop.run_until_complete(run())


TestJournalModel = JournalModel.TestCase
TestJournalModel.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
