"""The limits of a buffer, with values."""

from __future__ import annotations

from typing import Any

import pytest

from engine.connector import BufferConfig
from engine.delivery.admission import Admission
from engine.delivery.journal.state import LaneLog, SinkLog, SinkState


def enter(_: LaneLog) -> None:
    """No group."""


def admission(rows: int, size: int, **buffer: Any) -> Admission:
    sink = SinkLog(1, "s", SinkState(waiting_bytes=size), enter)
    sink.state.counters.emitted = rows
    return Admission(BufferConfig.model_validate({"max_bytes": 1000, **buffer}), sink)


@pytest.mark.parametrize(
    ("rows", "size", "is_full"), [(1, 990, False), (1, 1000, False), (1, 1001, True), (10, 10, False), (11, 10, True)]
)
def test_a_buffer_is_full_above_either_limit(rows: int, size: int, is_full: bool) -> None:
    """A buffer that is exactly full still takes nothing more, and has lost nothing."""
    assert admission(rows, size, max_events=10).is_full() == is_full
    assert admission(0, 0, max_events=10).is_full(rows, size) == is_full


@pytest.mark.parametrize(
    ("size", "was_refusing", "is_refusing"),
    [(999, False, False), (1000, False, True), (950, True, True), (950, False, False), (900, True, False)],
)
def test_refusing_begins_at_the_limit_and_ends_at_nine_tenths(size: int, was_refusing: bool, is_refusing: bool) -> None:
    """It must not change with every record."""
    assert admission(1, size).is_refusing(was_refusing) == is_refusing


@pytest.mark.parametrize("policy", ["drop_oldest", "drop_newest"])
def test_a_buffer_that_drops_never_refuses(policy: str) -> None:
    """Its publishers are always acknowledged."""
    assert not admission(99, 99_999, when_full=policy, max_events=1).is_refusing(True)


def test_excess_is_enough_for_both_limits() -> None:
    """Sizes of single records are not known, so that the average counts."""
    rows, row_bytes = admission(20, 1400, max_events=0).excess()
    assert (rows, row_bytes) == (6, 70)
    assert 1400 - rows * row_bytes <= 1000
    assert admission(20, 200, max_events=15).excess() == (5, 10)
