"""Selection of settled records to delete, tested with values."""

from __future__ import annotations

import pytest

from engine.delivery.journal.retention import Retention, Trimmed
from engine.delivery.journal.state import LaneLog, SinkLog, SinkState

NOW_MS = 1_000_000


def enter(_: LaneLog) -> None:
    """No group."""


def sink(*, settled: int, trimmed: int = 0, retain_s: float | None = 60.0, retain_bytes: int = 1000) -> SinkLog:
    log = SinkLog(1, "s", SinkState(settled_bytes=settled), enter, trimmed)
    log.lane(2).state.cursor = 40
    if retain_s is not None:
        log.retain(retain_s, retain_bytes)
    return log


@pytest.mark.parametrize(
    ("log", "by_age", "excess"),
    [
        (sink(settled=500), False, None),
        (sink(settled=500), True, 0),
        (sink(settled=1500), False, 500),
        (sink(settled=1500, trimmed=600), False, None),
        (sink(settled=0), True, None),
        (sink(settled=9000, retain_s=None), True, None),
    ],
    ids=["within limits", "looked at for age", "too many bytes", "trimmed before", "nothing kept", "not opened"],
)
def test_an_order_is_given_when_a_sink_keeps_more_than_it_may(log: SinkLog, by_age: bool, excess: int | None) -> None:
    """A commit without an order touches no block."""
    orders = Retention({"s": log}).orders(NOW_MS, by_age=by_age)
    assert [order.excess_bytes for order in orders] == ([] if excess is None else [excess])
    assert all(order.before_ms == NOW_MS - 60_000 and order.cursors == {64 + 2: 40} for order in orders)


def test_a_sink_with_more_to_delete_is_ordered_again_until_it_is_done() -> None:
    """Each commit deletes little, and the next one must not wait for the next second."""
    log = sink(settled=500)
    retention = Retention({"s": log})
    assert retention.account([Trimmed(1, 100, 5, is_unfinished=True)], NOW_MS)
    assert (log.kept_bytes, log.oldest_kept_ms) == (400, 5)
    assert retention.orders(NOW_MS, by_age=False)
    assert not retention.account([Trimmed(1, 400, None, is_unfinished=False)], NOW_MS)
    assert (log.kept_bytes, log.oldest_kept_ms) == (0, NOW_MS)
    assert not retention.orders(NOW_MS, by_age=True)
