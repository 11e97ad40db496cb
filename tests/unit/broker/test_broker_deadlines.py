"""The heap of deadlines."""

from __future__ import annotations

from broker.deadlines import Deadlines


def test_due_keys_come_in_order_and_once() -> None:
    """Each deadline is acted on exactly once."""
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("later", 9.0)):
        deadlines.set(key, when)
    assert list(deadlines.due(0.5)) == []
    assert list(deadlines.due(3.0)) == ["a", "b", "c"]
    assert list(deadlines.due(3.0)) == []
    assert len(deadlines) == 1


def test_setting_again_replaces() -> None:
    """Earlier or later: the last word counts."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", 2.0)
    deadlines.set("b", 1.0)
    deadlines.set("b", 4.0)
    assert list(deadlines.due(3.0)) == ["a"]
    assert list(deadlines.due(10.0)) == ["b"]


def test_cancelled_deadline_never_comes() -> None:
    """Also when it is set and cancelled several times."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.cancel("a")
    deadlines.cancel("never set")
    assert list(deadlines.due(2.0)) == []
    deadlines.set("a", 1.0)
    assert list(deadlines.due(2.0)) == ["a"]


def test_deadlines_set_very_often_do_not_fill_the_memory() -> None:
    """A client that reconnects all day with an expiry of a year leaves one entry, not thousands."""
    deadlines: Deadlines[str] = Deadlines()
    for number in range(10_000):
        deadlines.set("a", 1e6 + number)
        deadlines.cancel("a")
    assert len(deadlines._heap) < 100
