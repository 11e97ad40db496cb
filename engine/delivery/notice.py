"""Rate-limited log lines, for events of which a single client can cause any number."""

from __future__ import annotations

from typing import Literal

import structlog

from engine.delivery.progress import text_of
from engine.service.clock import Clock

log = structlog.get_logger()

NOTICE_EVERY_S = 10.0
"""Shortest time between two lines of one kind: one bad device may cause thousands of events a second."""


class Notice:
    """One kind of log line. The first event is logged at once; then there is at most one line every `NOTICE_EVERY_S`,
    with the number of events since the line before and the reason of the last one."""

    def __init__(self, clock: Clock, level: Literal["warning", "error"], event: str, **fields: str) -> None:
        self._clock = clock
        self._level = level
        self._event = event
        self._fields = fields
        self._count = 0
        self._next_at = 0.0

    def add(self, count: int, error: BaseException) -> None:
        """Count `count` events with the reason `error`, and log them when it is time. Never raises."""
        try:
            self._count += count
            now = self._clock.monotonic()
            if now >= self._next_at:
                getattr(log, self._level)(self._event, count=self._count, reason=text_of(error), **self._fields)
                self._count, self._next_at = 0, now + NOTICE_EVERY_S
        except Exception:
            # Logging may fail too, and must not undo what it is about. There is no place left to say so.
            return
