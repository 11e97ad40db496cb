"""Which settled records may be deleted: those older than ``buffer.retain``, and the oldest of those beyond
``buffer.retain_bytes``.

- Nothing of a sink is deleted before the sink is opened: one that is no longer configured keeps everything.
- Nothing above a lane's cursor is deleted.
- A commit deletes little at a time, so that no acknowledgement waits for it; a sink that has more to delete gets
  another commit soon.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from engine.delivery.journal.state import SinkLog


@dataclass(frozen=True, slots=True)
class TrimOrder:
    """Deletes settled blocks of one sink, oldest first: those from before ``before_ms``, and others until
    ``excess_bytes`` are freed."""

    sink_id: int
    cursors: Mapping[int, int]
    """Lane key to the lane's cursor."""
    before_ms: float
    excess_bytes: int


@dataclass(frozen=True, slots=True)
class Trimmed:
    """The result of an order. ``oldest_ms`` is the time of the oldest settled block that is left, or None."""

    sink_id: int
    freed_bytes: int
    oldest_ms: int | None
    is_unfinished: bool


class Retention:
    """Orders the deletions of `sinks`, and accounts for them."""

    def __init__(self, sinks: Mapping[str, SinkLog]) -> None:
        self._sinks = sinks

    def orders(self, now_ms: int, *, by_age: bool) -> list[TrimOrder]:
        """Return the orders for the commit of this moment. Ages are looked at with `by_age`, once a second, and as long
        as a sink has more to delete than a commit took."""
        return [order for sink in self._sinks.values() if (order := _order(sink, now_ms, by_age)) is not None]

    def account(self, trimmed: Iterable[Trimmed], now_ms: int) -> bool:
        """Account for deleted records. Return whether there is more to delete at once."""
        is_unfinished = False
        for done in trimmed:
            for sink in self._sinks.values():
                if sink.id == done.sink_id:
                    sink.trimmed_bytes += done.freed_bytes
                    sink.oldest_kept_ms = done.oldest_ms or now_ms
                    sink.is_trimming = done.is_unfinished
                    is_unfinished = is_unfinished or done.is_unfinished
        return is_unfinished


def _order(sink: SinkLog, now_ms: int, by_age: bool) -> TrimOrder | None:
    if sink.retain_ms is None:
        return None
    excess = sink.kept_bytes - sink.retain_bytes
    before_ms = now_ms - sink.retain_ms
    is_due = sink.is_trimming or (by_age and sink.oldest_kept_ms < before_ms)
    if excess <= 0 and not (is_due and sink.kept_bytes):
        return None
    cursors = {lane.key: lane.state.cursor for lane in sink.lanes.values()}
    return TrimOrder(sink.id, cursors, before_ms, max(excess, 0))
