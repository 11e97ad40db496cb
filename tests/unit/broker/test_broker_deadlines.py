"""The heap of deadlines."""

from __future__ import annotations

from broker.deadlines import Deadlines


def test_due_keys_come_in_order_and_once() -> None:
    """Each deadline is due exactly once."""
    deadlines: Deadlines[str] = Deadlines()
    for key, when in (("c", 3.0), ("a", 1.0), ("b", 2.0), ("later", 9.0)):
        deadlines.set(key, when)
    assert list(deadlines.due(0.5)) == []
    assert list(deadlines.due(3.0)) == ["a", "b", "c"]
    assert list(deadlines.due(3.0)) == []
    assert len(deadlines) == 1


def test_setting_a_deadline_again_replaces_it() -> None:
    """Whether it is earlier or later, the last one applies."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 5.0)
    deadlines.set("a", 2.0)
    deadlines.set("b", 1.0)
    deadlines.set("b", 4.0)
    assert list(deadlines.due(3.0)) == ["a"]
    assert list(deadlines.due(10.0)) == ["b"]


def test_cancelled_deadline_is_never_due() -> None:
    """Also when it is set and cancelled several times."""
    deadlines: Deadlines[str] = Deadlines()
    deadlines.set("a", 1.0)
    deadlines.cancel("a")
    deadlines.cancel("never set")
    assert list(deadlines.due(2.0)) == []
    deadlines.set("a", 1.0)
    assert list(deadlines.due(2.0)) == ["a"]


def test_replaced_deadlines_do_not_accumulate() -> None:
    """A client that reconnects all day with an expiry interval of a year leaves one entry, not thousands."""
    deadlines: Deadlines[str] = Deadlines()
    for number in range(10_000):
        deadlines.set("a", 1e6 + number)
        deadlines.cancel("a")
    assert len(deadlines._heap) < 100
