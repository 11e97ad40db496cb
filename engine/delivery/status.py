"""How a sink is, for people and for the API."""

from __future__ import annotations

from dataclasses import dataclass

from engine.delivery.link import LinkState
from engine.model.metrics import SinkCounters


@dataclass(frozen=True, slots=True)
class SinkStatus:
    """A sink at one moment. Times in milliseconds since 1970."""

    sink_id: str
    state: LinkState
    reason: str | None
    """Why it is not connected, in words."""
    since_ms: int
    counters: SinkCounters
    buffered: int
    """Records that wait."""
    buffered_bytes: int
    oldest_ms: int | None
    """When the message came that has waited longest; None where nothing waits or it is not known yet."""
    in_flight: int
    """Records that are with the sink now, or will be sent again."""
    dead_letters: int
    refusing: bool
    last_error: str | None
    next_attempt_ms: int | None

    def oldest_age_s(self, now_ms: int) -> float | None:
        """How long the oldest has waited."""
        return None if self.oldest_ms is None else max(now_ms - self.oldest_ms, 0) / 1000
