"""Group commits beside a plain model of them, under any order of puts, commits, failures of the disk and callbacks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from engine.delivery.journal import CommitHold, NewDeadLetter, PlacedChunk, Segment
from engine.delivery.journal.changes import Changes
from engine.delivery.journal.commit import Commit
from engine.delivery.journal.committer import Committer
from engine.delivery.journal.retention import Retention, Trimmed
from engine.delivery.journal.sqlite.worker import Answer
from engine.delivery.journal.state import SinkLog, SinkState
from engine.testing import FakeClock, pump
from support.deliveries import chunk

LANES = range(3)


class Disk:
    """A writer that completes a commit at the test's call."""

    def __init__(self) -> None:
        self.under_way: tuple[Commit, Answer[list[Trimmed]]] | None = None
        self.rows: dict[int, list[int]] = {lane: [] for lane in LANES}
        self.letters: list[int] = []

    def write(self, commit: Commit, answer: Answer[list[Trimmed]]) -> None:
        assert self.under_way is None, "one commit is under way at a time"
        self.under_way = commit, answer

    def answer(self, error: Exception | None) -> None:
        assert self.under_way is not None
        (commit, answer), self.under_way = self.under_way, None
        if error is None:
            for entry in commit.entries:
                rows = self.rows[entry.lane.state.number]
                assert entry.seq == len(rows) + 1, "numbers have no gap"
                rows += [row["n"] for item in entry.chunks for row in item.rows]
            self.letters += [letter.seq for letter in commit.letters]
        answer([] if error is None else None, error)


@dataclass
class Put:
    """The values that were put with one hold."""

    hold: CommitHold
    lane: int
    numbers: list[int] = field(default_factory=list)


class Listener:
    """Keeps the numbers of a lane's committed records."""

    def __init__(self) -> None:
        self.rows: list[int] = []

    def committed(self, segment: Segment) -> None:
        assert segment.first_seq == len(self.rows) + 1
        self.rows += [row["n"] for item in segment.chunks for row in item.rows]


class CommitterModel(RuleBasedStateMachine):
    """A record whose hold is done is on disk; one whose hold failed is not; each reaches its lane once, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.disk = Disk()
        changes = Changes({})
        self.committer = Committer(self.disk, changes, Retention({}), FakeClock())
        self.sink = SinkLog(1, "s", SinkState(), self.committer.group.enter)
        self.listeners = {}
        for lane in LANES:
            self.sink.lane(lane).listener = self.listeners[lane] = Listener()
        self.puts: list[Put] = []
        self.next_row = 0
        self.letters = 0
        self.committer.open()

    @rule(lane=st.sampled_from(LANES), rows=st.integers(1, 4))
    def put(self, lane: int, rows: int) -> None:
        numbers = list(range(self.next_row, self.next_row + rows))
        self.next_row += rows
        item = chunk(*numbers)
        placed = PlacedChunk(self.sink.lane(lane), item, rows, len(item.encode()))
        self._run(lambda: self._put(placed, lane, numbers))

    @rule()
    def give_up_a_record(self) -> None:
        self.letters += 1
        letter = NewDeadLetter(1, 0, self.letters, "r", "c", "t", 1, "reject", None, "bad", 1, 1, 1, b"")
        self._run(lambda: self.committer.group.add((), letters=[letter]))

    @rule(turns=st.integers(1, 3))
    def turn(self, turns: int) -> None:
        self.loop.run_until_complete(pump(turns))

    @rule()
    def commit(self) -> None:
        self._run(lambda: self.committer.commit(everything=True))

    @precondition(lambda self: self.disk.under_way is not None)
    @rule(works=st.booleans())
    def answer(self, works: bool) -> None:
        self._run(lambda: self.disk.answer(None if works else OSError("full")))

    @precondition(lambda self: self.disk.under_way is None)
    @rule()
    def close_and_open(self) -> None:
        self.committer.close()
        self.turn(2)
        assert self.disk.under_way is None, "nothing is written while it is closed"
        self._run(self.committer.open)

    @invariant()
    def holds_say_what_is_on_disk(self) -> None:
        for put in self.puts:
            stored = self.disk.rows[put.lane]
            assert all((number in stored) == (put.hold.done and not put.hold.failed) for number in put.numbers)

    @invariant()
    def lanes_get_what_is_on_disk(self) -> None:
        for lane in LANES:
            assert self.listeners[lane].rows == self.disk.rows[lane]
            assert self.sink.lane(lane).committed_seq == len(self.disk.rows[lane])

    @invariant()
    def counters_add_up(self) -> None:
        state = self.sink.state
        waiting = sum(lane.waiting for lane in self.sink.lanes.values())
        assert state.counters.emitted == waiting + state.counters.dropped_unwritten
        assert (state.waiting_bytes == 0) == (waiting == 0)

    def teardown(self) -> None:
        """When the disk works again everything that is left is written, dead letters included."""
        if self.disk.under_way is not None:
            self._run(lambda: self.disk.answer(None))
        self._run(lambda: self.committer.commit(everything=True))
        while self.disk.under_way is not None:
            self._run(lambda: self.disk.answer(None))
            self.loop.run_until_complete(pump(3))
        assert all(put.hold.done for put in self.puts)
        assert sorted(self.disk.letters) == list(range(1, self.letters + 1))
        self.loop.close()

    def _put(self, placed: PlacedChunk, lane: int, numbers: list[int]) -> None:
        self.committer.group.add([placed])
        self.puts.append(Put(self.committer.group.hold, lane, numbers))
        self.sink.state.counters.emitted += placed.rows
        self.sink.state.waiting_bytes += placed.size

    def _run(self, call) -> None:  # type: ignore[no-untyped-def]  # whatever the call answers
        async def run() -> None:
            call()

        self.loop.run_until_complete(run())


TestCommitterModel = CommitterModel.TestCase
TestCommitterModel.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
