"""Which positions and counters a commit writes."""

from __future__ import annotations

from engine.delivery.journal.changes import Changes, Snapshot
from engine.delivery.journal.checksummed import load_checksummed
from engine.delivery.journal.state import LaneLog, SinkLog, SinkState
from engine.model.metrics import RuleCounters


def enter(_: LaneLog) -> None:
    """No group."""


def names(snapshot: Snapshot) -> tuple[list[str], list[str]]:
    return sorted(name for _, name, _ in snapshot.sinks), sorted(name for name, _ in snapshot.rules)


def test_a_snapshot_has_changed_states_and_the_rules_of_its_records() -> None:
    """Writing every sink and rule with each commit would cost more than the records."""
    rules = {name: RuleCounters(received=1) for name in ("a", "b", "quiet")}
    changes = Changes(rules)
    changes.touch(SinkLog(1, "s", SinkState(), enter))
    assert names(changes.take({"a", "unknown"}, everything=False)) == (["s"], ["a"])
    assert names(changes.take(set(), everything=False)) == ([], [])


def test_everything_includes_rules_that_have_counted_since_they_were_written() -> None:
    """Rules that only filter have no records to travel with."""
    rules = {"a": RuleCounters(received=1), "b": RuleCounters(received=1)}
    changes = Changes(rules)
    changes.mark_loaded()
    rules["b"].received += 1
    snapshot = changes.take(set(), everything=True)
    assert names(snapshot) == ([], ["b"])
    rules["b"].received += 1
    changes.written(snapshot)
    assert names(changes.take(set(), everything=True)) == ([], ["b"]), "it counted on while it was written"


def test_a_snapshot_that_was_not_written_goes_with_the_next_one() -> None:
    """Counters of a sink and of the rules that feed it belong together on disk."""
    rules = {"a": RuleCounters(received=1)}
    changes = Changes(rules)
    changes.touch(SinkLog(1, "s", SinkState(), enter))
    changes.not_written(changes.take({"a"}, everything=False))
    snapshot = changes.take(set(), everything=False)
    assert names(snapshot) == (["s"], ["a"])
    changes.written(snapshot)
    assert names(changes.take(set(), everything=True)) == ([], [])


def test_a_snapshot_does_not_change_when_the_state_goes_on() -> None:
    """It is written by another thread while the event loop counts on."""
    sink = SinkLog(1, "s", SinkState(), enter)
    sink.state.counters.emitted = 5
    changes = Changes({})
    changes.touch(sink)
    snapshot = changes.take(set(), everything=False)
    sink.state.counters.emitted = 6
    ((sink_id, name, text),) = snapshot.sinks
    assert load_checksummed(text, SinkState, sink_id, name).counters.emitted == 5
