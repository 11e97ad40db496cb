"""The decisions about a batch, with values: no sink, no clock, no journal."""

from __future__ import annotations

import pytest

from engine.connector import ALL_STORED, Failures, RetryConfig
from engine.delivery.journal import Segment
from engine.delivery.progress import Action, BatchProgress
from engine.delivery.queue import LaneQueue, split
from engine.delivery.retry import backoff_s
from engine.errors import DuplicateError, HoldError, NotConnectedError, RejectError, RetryableError, SplitError
from engine.model.record import Batch
from support.deliveries import chunk

RETRY = RetryConfig(max_unknown=2)


def batch(count: int, first: int = 1) -> Batch:
    item = chunk(*range(first, first + count))
    return Batch("s", 0, range(first, first + count), item.rows, [item])


def segment(first: int, *sizes: int) -> Segment:
    chunks = []
    seq = first
    for size in sizes:
        chunks.append(chunk(*range(seq, seq + size)))
        seq += size
    return Segment(first, sum(sizes), sum(len(item.encode()) for item in chunks), chunks)


def sent(work: BatchProgress) -> list[int]:
    assert work.part is not None
    return [row["n"] for row in work.part.batch.rows]


def test_stored_records_are_settled_at_once() -> None:
    """The usual case is one step."""
    step = BatchProgress(batch(3), RETRY).answer(ALL_STORED, 1)
    assert step.settled is not None
    assert (step.settled.through, step.settled.delivered, step.action) == (3, 3, Action.GO_ON)


def test_nothing_is_settled_past_a_record_that_is_not_settled() -> None:
    """The cursor must never pass a record that a crash would then lose.

    Of ten records all but 4 and 5 are stored; these two are then refused together, and 4 is stored alone: neither
    that nor what was stored before may move the cursor until 5 is settled too.
    """
    work = BatchProgress(batch(10), RETRY)
    first = work.answer(Failures({3: SplitError("bulk"), 4: SplitError("bulk")}), 1)
    assert first.settled is None
    assert sent(work) == [4]
    second = work.answer(ALL_STORED, 1)
    assert second.settled is None
    assert sent(work) == [5]
    third = work.answer(RejectError("bad"), 1)
    assert third.settled is not None
    assert (third.settled.through, third.settled.delivered, len(third.settled.given_up)) == (10, 9, 1)
    assert work.part is None


def test_a_half_without_errors_is_settled_on_its_own() -> None:
    """A bisection of five hundred records that is cut off half way must not begin anew."""
    work = BatchProgress(batch(10), RETRY)
    work.answer(SplitError("no"), 1)
    step = work.answer(ALL_STORED, 1)
    assert step.settled is not None
    assert (step.settled.through, step.settled.delivered) == (5, 5)


@pytest.mark.parametrize(
    ("error", "action"),
    [
        (HoldError("x"), Action.HOLD),
        (NotConnectedError("x"), Action.RECONNECT),
        (ConnectionResetError("x"), Action.RECONNECT),
        (RetryableError("x"), Action.BACK_OFF),
        (TimeoutError("x"), Action.BACK_OFF),
        (SplitError("x"), Action.GO_ON),
        (ZeroDivisionError("x"), Action.BACK_OFF),
    ],
)
def test_each_class_of_error_has_its_own_step(error: Exception, action: Action) -> None:
    """The table in the module's docstring."""
    work = BatchProgress(batch(4), RETRY)
    assert work.answer(error, 1).action is action
    assert work.part is not None


def test_of_several_errors_the_most_far_reaching_one_decides() -> None:
    """A retry of a configuration mistake would only fill the log."""
    work = BatchProgress(batch(4), RETRY)
    step = work.answer(Failures({0: RetryableError("later"), 1: HoldError("rights"), 2: DuplicateError("has it")}), 1)
    assert step.action is Action.HOLD
    assert sent(work) == [1, 2]


def test_indices_that_do_not_exist_are_passed_over() -> None:
    """A connector's mistake must not count records twice."""
    step = BatchProgress(batch(2), RETRY).answer(Failures({7: RejectError("?"), -1: RejectError("?")}), 1)
    assert step.settled is not None
    assert (step.settled.delivered, step.settled.given_up) == (2, [])


def test_a_duplicate_among_many_is_found_by_bisection() -> None:
    """A unique violation says that one row is there already, not that the batch was stored."""
    work = BatchProgress(batch(2), RETRY)
    work.answer(DuplicateError("key"), 1)
    assert sent(work) == [1]
    first = work.answer(DuplicateError("key"), 1)
    assert first.settled is not None
    assert (first.settled.delivered, first.settled.deduplicated) == (1, 1)
    second = work.answer(ALL_STORED, 1)
    assert second.settled is not None
    assert (second.settled.delivered, second.settled.deduplicated) == (1, 0)


def test_a_segment_is_split_at_any_record_without_losing_a_byte() -> None:
    """The limits of a batch need not be those of chunks."""
    whole = segment(1, 3, 1, 5)
    for rows in range(1, 9):
        front, rest = split(whole, rows)
        assert [row["n"] for part in (front, rest) for item in part.chunks for row in item.rows] == list(range(1, 10))
        assert (front.first_seq, front.last_seq, rest.first_seq, rest.last_seq) == (1, rows, rows + 1, 9)
        assert front.size + rest.size == whole.size


def test_a_gap_that_is_read_while_records_keep_coming_closes() -> None:
    """Otherwise a lane that once fell behind would read from disk for ever."""
    queue = LaneQueue("s", 0, cursor=0, committed=6, size_max=10_000)
    assert queue.gap(6) == (1, 6)
    queue.committed(segment(7, 2))
    queue.committed(segment(9, 2))
    assert queue.gap(10) == (1, 6)
    queue.fill([segment(1, 6)], 6, 10)
    assert queue.gap(10) is None
    taken = queue.take(100, 1 << 20, 1 << 60)
    assert taken is not None
    assert list(taken.batch.seqs) == list(range(1, 11))


def test_a_tail_that_grows_too_large_gives_its_oldest_to_the_gap() -> None:
    """Memory is bounded on both sides of a gap."""
    one = segment(1, 10)
    queue = LaneQueue("s", 0, cursor=0, committed=10, size_max=one.size * 4)
    for first in range(11, 101, 10):
        queue.committed(segment(first, 10))
    assert queue.gap(100) == (1, 80)


def test_records_that_are_missing_leave_a_gap_in_the_numbers() -> None:
    """So that they can be counted as lost."""
    queue = LaneQueue("s", 0, cursor=0, committed=9, size_max=10_000)
    queue.fill([segment(1, 3), segment(7, 3)], 9, 9)
    taken = queue.take(100, 1 << 20, 1 << 60)
    assert taken is not None
    assert list(taken.batch.seqs) == [1, 2, 3, 7, 8, 9]


class Always:
    """Chance that always takes the same part of its range."""

    def __init__(self, part: float) -> None:
        self.part = part

    def uniform(self, low: float, high: float) -> float:
        return low + self.part * (high - low)


def test_back_off_doubles_to_its_limit_with_full_jitter() -> None:
    """So that a thousand instances do not come back to a server in step."""
    retry = RetryConfig(initial=0.5, max=30.0)
    most = [backoff_s(retry, n, Always(1.0)) for n in (1, 2, 3, 7, 8, 10_000)]  # type: ignore[arg-type]
    assert most == [0.5, 1.0, 2.0, 30.0, 30.0, 30.0]
    assert backoff_s(retry, 5, Always(0.0)) == 0.0  # type: ignore[arg-type]
    assert backoff_s(retry, 1, Always(0.0), 60.0) == 60.0  # type: ignore[arg-type]
