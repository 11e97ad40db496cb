"""The time limit of one `Sink.write`. Its only owner is the lane, which cancels a write that overruns it."""

from __future__ import annotations

from engine.service.clock import Clock

ANSWER_SHARE = 0.9
"""The part of ``request_timeout`` that a sink may use. The rest is for reporting which records were stored before the
lane cancels the write, after which the outcome of the whole batch is unknown."""


class Deadline:
    """The moment by which a write should answer. May be asked from any thread."""

    __slots__ = ("_at", "_clock", "total_s")

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.total_s = seconds
        """The whole time that was given."""
        self._clock = clock
        self._at = clock.monotonic() + seconds

    def left_s(self) -> float:
        """Return the seconds that are left, for a driver's own timeout; 0 once the deadline has passed."""
        return max(0.0, self._at - self._clock.monotonic())

    def is_over(self) -> bool:
        """Whether the deadline has passed."""
        return self._clock.monotonic() >= self._at

    def is_half_over(self) -> bool:
        """Whether less than half of the time is left, which may be too little to begin another request."""
        return self._at - self._clock.monotonic() <= self.total_s / 2
