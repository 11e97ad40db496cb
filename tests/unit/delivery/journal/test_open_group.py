"""The open group: it takes all or nothing, and closes when it should."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from engine.delivery.journal import NewDeadLetter, PlacedChunk
from engine.delivery.journal.group import GATHER_S, OpenGroup
from engine.delivery.journal.state import SinkLog, SinkState
from engine.testing import FakeClock, pump
from support.deliveries import chunk

LETTER = NewDeadLetter(1, 0, 0, "r", "c", "t", 1, "reject", None, "bad", 0, 1, 1, b"")


class Closing:
    """A group, and how often it closed."""

    def __init__(self) -> None:
        self.closed = 0
        self.clock = FakeClock()
        self.group = OpenGroup(self.clock, self._close)
        self.sink = SinkLog(1, "s", SinkState(), self.group.enter)
        self.group.resume()

    def _close(self) -> None:
        self.closed += 1
        self.group.closed()

    def placed(self, *rows: int, lane: int = 0) -> PlacedChunk:
        item = chunk(*rows)
        return PlacedChunk(self.sink.lane(lane), item, len(item.rows), len(item.encode()))


@pytest.fixture
async def closing() -> Closing:
    return Closing()


async def test_records_are_numbered_when_the_group_closes(closing: Closing) -> None:
    """Numbers follow each other over groups, and each lane stands in a group once."""
    group = closing.group
    group.add([closing.placed(1, 2), closing.placed(3, lane=1), closing.placed(4)])
    assert [lane.state.number for lane in group.lanes] == [0, 1]
    first = group.take()
    assert [(entry.lane.state.number, entry.seq, entry.rows) for entry in first.entries] == [(0, 1, 3), (1, 1, 1)]
    assert group.is_empty
    group.add([closing.placed(5)])
    assert [(entry.seq, entry.rows) for entry in group.take().entries] == [(4, 1)]


async def test_a_group_with_nothing_in_it_never_closes(closing: Closing) -> None:
    """An idle journal writes nothing."""
    await pump()
    assert closing.closed == 0


async def test_a_group_without_more_callers_closes_in_the_next_turn(closing: Closing) -> None:
    """A single client must not wait for company."""
    closing.group.add([closing.placed(1)])
    assert closing.closed == 0
    await asyncio.sleep(0)
    assert closing.closed == 1


async def test_a_group_stays_open_while_callers_keep_coming_but_not_beyond_its_time(closing: Closing) -> None:
    """A stream of callers that never ends must not keep the first one waiting."""
    group = closing.group
    group.add([closing.placed(1)])
    for _ in range(100):
        group.hold.add_done_callback(lambda: None)
        await asyncio.sleep(0)
    assert closing.closed == 0
    await closing.clock.advance(GATHER_S)
    assert closing.closed == 1


async def test_a_paused_group_closes_once_it_is_resumed(closing: Closing) -> None:
    """While a commit is under way everything that comes is gathered for the next."""
    group = closing.group
    group.pause()
    group.add([closing.placed(1)])
    await pump()
    assert closing.closed == 0
    group.resume()
    await pump()
    assert closing.closed == 1


async def test_deleting_dead_letters_closes_the_group_and_adding_them_does_not(closing: Closing) -> None:
    """Somebody waits for the deletion; new letters go with the positions of their lane."""
    group = closing.group
    group.add((), letters=[LETTER])
    await pump()
    assert closing.closed == 0
    assert not group.is_empty
    group.add((), deleted_letters=[7])
    await pump()
    assert closing.closed == 1


@pytest.mark.parametrize("is_first", [True, False])
async def test_add_takes_nothing_when_one_of_its_chunks_fails(closing: Closing, is_first: bool) -> None:
    """The second lane fails: the first must not keep its part of the same chunk."""
    group = closing.group
    if not is_first:
        group.add([closing.placed(0)])
    before = state(closing)
    good, bad = closing.placed(1), closing.placed(2, lane=1)
    bad.lane._enter = failing
    with pytest.raises(MemoryError):
        group.add([good, bad], letters=[LETTER], deleted_letters=[1], undo=[lambda: None])
    assert state(closing) == before
    group.add([good])
    assert [entry.rows for entry in group.take().entries] == [1 if is_first else 2]


def failing(_: object) -> None:
    raise MemoryError


def state(closing: Closing) -> Any:
    group = closing.group
    lanes = [(lane.fresh_rows, lane.fresh_bytes, len(lane.fresh)) for lane in group.lanes]
    return list(group.lanes), lanes, list(group.letters), list(group.deleted_letters), undo_of(group)


def undo_of(group: OpenGroup) -> list[Callable[[], None]]:
    return list(group._undo)


async def test_facts_of_a_commit_that_failed_go_first_in_the_next_group(closing: Closing) -> None:
    """Dead letters stay dead whether or not the disk took them; deletions are undone by their owner."""
    group = closing.group
    group.add((), letters=[LETTER], deleted_letters=[7])
    commit = group.take()
    later = LETTER._replace(message="later")
    group.add((), letters=[later])
    group.take_back(commit)
    assert group.letters == [LETTER, later]
    assert group.deleted_letters == []
