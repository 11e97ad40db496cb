"""The result of a write and its deadline: how failures are joined, moved and raised, and how much time is left."""

from __future__ import annotations

import pytest

from engine.connector import ALL_STORED, Deadline, Failures
from engine.errors import DuplicateError, HoldError, RejectError, RetryableError
from engine.testing import FakeClock

BUSY = RetryableError("busy")
BAD = RejectError("bad type")


class TestFailures:
    def test_result_without_failures_is_false(self) -> None:
        """Callers ask `if failures`, as of any mapping."""
        assert not ALL_STORED
        assert Failures({1: BAD})

    def test_join_prefers_the_right_side(self) -> None:
        """A second look at a record knows more than the first."""
        assert Failures({0: BUSY, 1: BUSY}) | Failures({1: BAD, 2: BAD}) == {0: BUSY, 1: BAD, 2: BAD}

    def test_join_leaves_both_sides_as_they_were(self) -> None:
        """A result may be shared, `ALL_STORED` by everybody."""
        left, right = Failures({0: BUSY}), Failures({0: BAD})
        assert (ALL_STORED | left) | right == {0: BAD}
        assert [dict(each) for each in (left, right, ALL_STORED)] == [{0: BUSY}, {0: BAD}, {}]

    def test_failures_of_a_part_move_to_their_places_in_the_batch(self) -> None:
        """A part counts its records from 0, and the lane asks by the places of the batch."""
        assert Failures({0: BAD, 2: BUSY}).moved([4, 7, 9]) == {4: BAD, 9: BUSY}

    def test_one_error_for_the_whole_batch_is_raised(self) -> None:
        """The lane then treats the batch as one, with one reason."""
        hold = HoldError("no table")
        with pytest.raises(HoldError) as caught:
            Failures.of(range(3), hold).or_raise(3)
        assert caught.value is hold

    @pytest.mark.parametrize(
        ("failures", "count"),
        [
            (ALL_STORED, 0),
            (ALL_STORED, 2),
            (Failures({1: BUSY}), 2),
            (Failures({0: BUSY, 1: RetryableError("other")}), 2),
            (Failures.of(range(2), BAD), 2),
            (Failures.of(range(1), DuplicateError("stored before")), 1),
        ],
        ids=["empty batch", "all stored", "some stored", "different errors", "rejections", "a duplicate"],
    )
    def test_anything_else_is_returned(self, failures: Failures, count: int) -> None:
        """Records that are stored, or rejected, must not be sent again."""
        assert failures.or_raise(count) is failures


async def test_deadline_counts_down_on_the_clock_it_was_made_with() -> None:
    """Sinks have no clock of their own to compare it with."""
    clock = FakeClock()
    deadline = Deadline(clock, 10.0)
    assert (deadline.left_s(), deadline.is_half_over(), deadline.is_over()) == (10.0, False, False)
    await clock.advance(5.0)
    assert (deadline.left_s(), deadline.is_half_over(), deadline.is_over()) == (5.0, True, False)
    await clock.advance(6.0)
    assert (deadline.left_s(), deadline.is_half_over(), deadline.is_over()) == (0.0, True, True)
