"""What is counted of rules and sinks: plain integers, collected when somebody asks.

Two equations hold whenever nothing is half done, and again after a restart (the journal stores the counters in the
same transaction as the records they count):

- of a rule, ``received = filtered + failed + emitted``; ``refused`` stands outside, such a message comes again;
- of a sink, ``emitted = delivered + buffered + dead_lettered + dropped``; ``deduplicated`` is a part of ``delivered``,
  ``dropped`` the sum of all ``dropped_…``, and ``buffered`` is what waits.
"""

from __future__ import annotations

import msgspec


class RuleCounters(msgspec.Struct, omit_defaults=True, gc=False):
    """What one rule made of messages and events."""

    received: int = 0
    filtered: int = 0
    failed: int = 0
    emitted: int = 0
    refused: int = 0
    """Refused because a sink was full; not received, the client sends it again."""
    records: int = 0
    """Rows handed to sinks, counted once per sink."""

    def changes(self) -> int:
        """Grows with every change."""
        return self.received + self.refused


class SinkCounters(msgspec.Struct, omit_defaults=True, gc=False):
    """What became of the records of one sink."""

    emitted: int = 0
    """Records handed to the sink's outbox."""
    delivered: int = 0
    """Records the sink has, those included that it had already."""
    deduplicated: int = 0
    """Of these, records the sink had already."""
    dead_lettered: int = 0
    """Records that lie among the dead letters; one that is sent again leaves."""
    dropped_queue_full: int = 0
    """Dropped at a full buffer with nobody to tell: QoS 0 and events."""
    dropped_newest: int = 0
    dropped_oldest: int = 0
    dropped_unwritten: int = 0
    """Dropped because the journal could not write them; none of them was acknowledged."""
    dropped_corrupted: int = 0
    """Lost to damage of the journal's file."""
    dropped_dead_letters: int = 0
    """Dead letters that were dropped by command."""
    retried: int = 0
    """Attempts after the first of a batch."""
    batches: int = 0
    """Batches the sink took."""

    @property
    def dropped(self) -> int:
        """All that was dropped, whatever the policy."""
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
        """Records that wait."""
        return self.emitted - self.delivered - self.dead_lettered - self.dropped
