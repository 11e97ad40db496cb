"""The limits of a sink's buffer: whether it is full, whether new records are refused, and how much has to be dropped.

    when_full      a chunk at the limit                               new publishes are refused
    ─────────────  ─────────────────────────────────────────────────  ─────────────────────────────────────
    refuse         is taken: publishers are refused before they put   from the limit until the buffer has
                                                                      sunk to `REFUSING_UNTIL` of it
    drop_newest    is dropped                                         only while the journal fails
    drop_oldest    is taken, and the oldest records are dropped       only while the journal fails
                   until the buffer is within its limits

The limits are ``buffer.max_bytes`` and ``buffer.max_events``.
"""

from __future__ import annotations

from engine.connector import BufferConfig
from engine.delivery.journal import SinkLog

REFUSING_UNTIL = 0.9
"""Part of its limit to which a full buffer must sink before it takes new records. Without this hysteresis each record
that is delivered would let in exactly one more, and publishers would be refused and admitted in turn."""


class Admission:
    """The limits of `buffer`, applied to the waiting records of `sink`. Changes nothing."""

    def __init__(self, buffer: BufferConfig, sink: SinkLog) -> None:
        self.when_full = buffer.when_full
        self._bytes_max = buffer.max_bytes
        self._rows_max = buffer.max_events
        """0 means no limit."""
        self._state = sink.state
        self._counters = sink.state.counters

    def is_full(self, rows: int = 0, size: int = 0) -> bool:
        """Return whether the buffer, with `rows` more records of `size` bytes, is above a limit."""
        if self._state.waiting_bytes + size > self._bytes_max:
            return True
        return bool(self._rows_max) and self._counters.buffered + rows > self._rows_max

    def is_refusing(self, was_refusing: bool) -> bool:
        """Return whether new records should be refused, given whether they were refused until now."""
        if self.when_full != "refuse":
            return False
        waiting, buffered = self._state.waiting_bytes, self._counters.buffered
        if was_refusing:
            return waiting > REFUSING_UNTIL * self._bytes_max or (
                bool(self._rows_max) and buffered > REFUSING_UNTIL * self._rows_max
            )
        return waiting >= self._bytes_max or (bool(self._rows_max) and buffered >= self._rows_max)

    def excess(self) -> tuple[int, int]:
        """Return how many records have to go until the buffer is within its limits, and how many bytes each counts
        for: the average of the waiting records, since these may be on disk."""
        waiting, buffered = self._state.waiting_bytes, self._counters.buffered
        row_bytes = max(waiting // max(buffered, 1), 1)
        rows = (waiting - self._bytes_max) // row_bytes + 1
        if self._rows_max:
            rows = max(rows, buffered - self._rows_max)
        return rows, row_bytes
