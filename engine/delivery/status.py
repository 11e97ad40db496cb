"""The state of a sink for the command line and the API."""

from __future__ import annotations

from dataclasses import dataclass

from engine.delivery.connection import ConnectionState
from engine.model.metrics import SinkCounters


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink at one moment. Times in milliseconds since 1970."""

    sink_id: str
    state: ConnectionState
    reason: str | None
    """Why it is not connected."""
    since_ms: int
    counters: SinkCounters
    buffered: int
    """Records that wait."""
    buffered_bytes: int
    oldest_ms: int | None
    """When the message came that has waited longest; None where nothing waits, or its record has not been read yet."""
    in_flight: int
    """Records of batches that are being sent, or will be sent again."""
    dead_letters: int
    refusing: bool
    last_error: str | None
    next_attempt_ms: int | None

    def oldest_age_s(self, now_ms: int) -> float | None:
        """Return how long the oldest record has waited."""
        return None if self.oldest_ms is None else max(now_ms - self.oldest_ms, 0) / 1000
