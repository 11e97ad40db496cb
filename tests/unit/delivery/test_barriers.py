"""Barriers between the records of two ways of spreading, with values."""

from __future__ import annotations

from typing import Any, cast

from engine.delivery.barrier import Barriers
from engine.delivery.journal import Journal
from engine.delivery.journal.state import LaneLog, SinkLog, SinkState
from engine.delivery.lane import NO_LIMIT, Lane


class FakeLane:
    """A lane that may be limited."""

    def __init__(self) -> None:
        self.limit_seq = NO_LIMIT
        self.wakes = 0

    def wake(self) -> None:
        self.wakes += 1


class Touched:
    """A journal that counts calls."""

    def __init__(self) -> None:
        self.touches = 0

    def touch(self, sink: SinkLog) -> None:
        self.touches += 1


class Sink:
    """Three lanes with positions, and their barriers."""

    def __init__(self, *positions: tuple[int, int]) -> None:
        self.journal = Touched()
        self.log = SinkLog(1, "s", SinkState(), self._enter)
        for number, (cursor, last) in enumerate(positions):
            state = self.log.lane(number).state
            state.cursor, state.next_seq = cursor, last + 1
        self.lanes = {number: FakeLane() for number in range(3)}
        self.barriers = Barriers(self.log, cast(Journal, self.journal))

    def _enter(self, lane: LaneLog) -> None:
        """No group."""

    def lift(self) -> list[int]:
        self.barriers.lift(cast(dict[int, Lane], cast(Any, self.lanes)))
        return [lane.limit_seq for lane in self.lanes.values()]


def test_no_barrier_is_set_where_nothing_waits() -> None:
    """A change of lanes without a backlog costs nothing."""
    sink = Sink((5, 5), (3, 3))
    sink.barriers.add()
    assert not sink.barriers.exist
    assert sink.lift() == [NO_LIMIT] * 3


def test_lanes_stop_at_a_barrier_until_all_have_reached_it() -> None:
    """A key may have moved from any lane to any other; a lane that is newer than the barrier waits altogether."""
    sink = Sink((2, 5), (3, 3))
    sink.barriers.add()
    assert sink.lift() == [5, 3, 0]
    sink.log.lane(0).state.cursor = 4
    assert sink.lift() == [5, 3, 0]
    sink.log.lane(0).state.cursor = 5
    assert sink.lift() == [NO_LIMIT] * 3
    assert not sink.barriers.exist
    assert sink.journal.touches == 1
    assert [lane.wakes for lane in sink.lanes.values()] == [2, 2, 2]


def test_barriers_go_in_their_order() -> None:
    """Lanes go on to the next barrier, not past it."""
    sink = Sink((0, 2), (0, 2))
    sink.barriers.add()
    sink.log.lane(0).state.next_seq = 8
    sink.barriers.add()
    sink.log.lane(1).state.cursor = 2
    assert sink.lift() == [2, 2, 0]
    sink.log.lane(0).state.cursor = 2
    assert sink.lift() == [7, 2, 0]


def test_a_barrier_above_the_last_number_is_reached_with_it() -> None:
    """A commit that failed takes numbers back, and no lane would ever reach the barrier."""
    sink = Sink((2, 5), (0, 0))
    sink.barriers.add()
    state = sink.log.lane(0).state
    state.next_seq, state.cursor = 4, 3
    assert sink.lift() == [NO_LIMIT] * 3
