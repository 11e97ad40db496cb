"""Counters of rules and sinks: plain integers, read when metrics are collected.

Two equations hold between two messages, and after a restart (the journal commits the counters together with the records
that they count):

- rule: ``received = filtered + failed + emitted``; ``refused`` is no part of it, the client sends the message again;
- sink: ``emitted = delivered + buffered + dead_lettered + dropped``; ``deduplicated`` is a part of ``delivered``,
  ``dropped`` is the sum of all ``dropped_…``.

The classes are msgspec structures with ``gc=False``: they hold integers only, so that they can be part of no reference
cycle, and the garbage collector need not look at one per rule and sink.
"""

from __future__ import annotations

import msgspec


class RuleCounters(msgspec.Struct, omit_defaults=True, gc=False):
    """Counters of one rule, in messages and events unless said otherwise."""

    received: int = 0
    filtered: int = 0
    failed: int = 0
    emitted: int = 0
    refused: int = 0
    """Refused because a sink's buffer was full. Not part of ``received``: the client sends the message again."""
    records: int = 0
    """Rows handed to sinks, counted once per sink."""

    def changes(self) -> int:
        """Return a number that grows with every change of the counters of messages."""
        return self.received + self.refused


class SinkCounters(msgspec.Struct, omit_defaults=True, gc=False):
    """Counters of one sink, in records unless said otherwise."""

    emitted: int = 0
    """Records handed to the sink's outbox."""
    delivered: int = 0
    """Records the sink has stored, ``deduplicated`` included."""
    deduplicated: int = 0
    """Records the sink had stored before."""
    dead_lettered: int = 0
    """Dead letters in the store at present; a retry takes its dead letter out."""
    dropped_queue_full: int = 0
    """Dropped at a full buffer, of senders that can't be refused: QoS 0 publishes and events."""
    dropped_newest: int = 0
    dropped_oldest: int = 0
    dropped_unwritten: int = 0
    """Dropped because the journal could not write them; all are unacknowledged."""
    dropped_corrupted: int = 0
    """Lost to damage of the journal's file."""
    dropped_dead_letters: int = 0
    """Dead letters dropped by command."""
    retried: int = 0
    """Attempts to write a batch, the first of each not counted."""
    batches: int = 0
    """Batches written."""

    @property
    def dropped(self) -> int:
        """Records dropped, for any reason."""
        return (
            self.dropped_queue_full
            + self.dropped_newest
            + self.dropped_oldest
            + self.dropped_unwritten
            + self.dropped_corrupted
            + self.dropped_dead_letters
        )

    @property
    def buffered(self) -> int:
        """Records that wait in the buffer or are in flight."""
        return self.emitted - self.delivered - self.dead_lettered - self.dropped
