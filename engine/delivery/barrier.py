"""Barriers keep the order of each key when keys move between lanes.

When the number of lanes or the lane key changes, a key may move to another lane while older records of it still wait in
its old one. Each such change sets a barrier, which is stored with the sink's state: the last number of every lane at
that moment.

- No lane delivers a record that came after a barrier before every lane has settled its records before it.
- A lane that is not part of a barrier is newer than it and delivers nothing until the barrier is gone.
- Barriers go in the order in which they were set.
"""

from __future__ import annotations

from collections.abc import Mapping

from engine.delivery.journal import Journal, SinkLog
from engine.delivery.lane import NO_LIMIT, Lane


class Barriers:
    """The barriers of `sink`, and the limits that they set to its lanes."""

    def __init__(self, sink: SinkLog, journal: Journal) -> None:
        self._sink = sink
        self._journal = journal

    @property
    def exist(self) -> bool:
        """Whether any barrier is set."""
        return bool(self._sink.state.barriers)

    def add(self) -> None:
        """Let everything that waits now be settled before anything that comes from here on."""
        waiting = {log.state.number: log.state.next_seq - 1 + log.fresh_rows for log in self._sink.lanes.values()}
        if any(through > self._sink.lanes[number].state.cursor for number, through in waiting.items()):
            self._sink.state.barriers.append(waiting)

    def lift(self, lanes: Mapping[int, Lane]) -> None:
        """Remove barriers that every lane has reached, and let `lanes` go on up to the next one."""
        barriers = self._sink.state.barriers
        reached = 0
        while reached < len(barriers) and self._is_reached(barriers[reached]):
            reached += 1
        # In this order, each step can be interrupted: as long as a barrier is there, this will be done again.
        for number, lane in lanes.items():
            limit = barriers[reached].get(number, 0) if reached < len(barriers) else NO_LIMIT
            if limit != lane.limit_seq:
                lane.wake()
                lane.limit_seq = limit
        if reached:
            self._journal.touch(self._sink)
            del barriers[:reached]

    def _is_reached(self, barrier: Mapping[int, int]) -> bool:
        return all(self._has_settled(number, through) for number, through in barrier.items())

    def _has_settled(self, number: int, through: int) -> bool:
        """Whether the lane has settled its records up to `through`, or all it has: a commit that failed takes numbers
        back, and then a barrier may stand above the last of them."""
        lane = self._sink.lanes[number]
        cursor = lane.state.cursor
        return cursor >= through or (cursor >= lane.state.next_seq - 1 and not lane.fresh)
