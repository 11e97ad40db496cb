"""Positions and counters that differ from those on disk, and the snapshots of them that commits write.

Positions and counters change in place, on the event loop, while a commit is written by another thread. A commit
therefore holds a snapshot, made at the moment its group closes: the positions, counters and records of one commit
always belong together.

- A sink is written when it was touched since the last snapshot, or has records in the commit.
- A rule is written when it has records in the commit, or, in a commit that takes everything, when it has counted
  anything since it was last written. Rules that only filter have no records to travel with.
- A snapshot that could not be written is written again, newer, with the next commit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from engine.delivery.journal.checksummed import dump_checksummed
from engine.delivery.journal.state import SinkLog
from engine.model.metrics import RuleCounters


class Snapshot(NamedTuple):
    """Positions and counters as text, with their sinks and rules."""

    sinks: list[tuple[int, str, str]]
    """Id, name and state of each sink."""
    rules: list[tuple[str, str]]
    """Name and counters of each rule."""
    changed_sinks: set[SinkLog]
    rule_changes: Mapping[str, int]
    """`RuleCounters.changes` of each rule at that moment."""


class Changes:
    """The sinks that were touched, and those of `rules` that have counted, since they were last written."""

    def __init__(self, rules: Mapping[str, RuleCounters]) -> None:
        self._rules = rules
        self._sinks: set[SinkLog] = set()
        self._stored: dict[str, int] = {}
        """`RuleCounters.changes` of each rule as it was last written."""
        self._unwritten: set[str] = set()
        """Rules of a commit that failed: the counters of sinks in the next one belong to theirs."""

    def touch(self, sink: SinkLog) -> None:
        """Note that positions or counters of `sink` have changed."""
        self._sinks.add(sink)

    def touch_all(self, sinks: Iterable[SinkLog]) -> None:
        """Have everything written anew, because the file was replaced by an older state."""
        self._sinks.update(sinks)
        self._unwritten.update(self._rules)

    def mark_loaded(self) -> None:
        """Note that all rules are as they are on disk."""
        self._stored = {name: counters.changes() for name, counters in self._rules.items()}

    def take(self, rules: set[str], *, everything: bool) -> Snapshot:
        """Return a snapshot of touched sinks and of `rules`; with `everything`, of every rule that has counted."""
        names = self._changed_rules() if everything else self._known(rules | self._unwritten)
        snapshot = Snapshot(
            [(sink.id, sink.name, dump_checksummed(sink.state, sink.id, sink.name)) for sink in self._sinks],
            [(name, dump_checksummed(self._rules[name], name)) for name in names],
            self._sinks,
            {name: self._rules[name].changes() for name in names},
        )
        self._sinks = set()
        return snapshot

    def written(self, snapshot: Snapshot) -> None:
        """Note that `snapshot` is on disk."""
        self._stored.update(snapshot.rule_changes)
        self._unwritten.difference_update(snapshot.rule_changes)

    def not_written(self, snapshot: Snapshot) -> None:
        """Have `snapshot` written again with the next commit."""
        self._sinks |= snapshot.changed_sinks
        self._unwritten.update(snapshot.rule_changes)

    def _known(self, names: set[str]) -> list[str]:
        """Return those of `names` that have counters; a chunk may name a rule without counters."""
        return [name for name in names if name in self._rules]

    def _changed_rules(self) -> list[str]:
        return [
            name
            for name, counters in self._rules.items()
            if self._stored.get(name, 0) != counters.changes() or name in self._unwritten
        ]
