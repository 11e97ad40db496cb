"""Bringing records from the journal to sinks. `Delivery` owns an `Outbox` for each sink."""

from engine.delivery.delivery import Delivery
from engine.delivery.letter import StoredLetter
from engine.delivery.outbox import Outbox
from engine.delivery.status import SinkStatus

__all__ = ["Delivery", "Outbox", "SinkStatus", "StoredLetter"]
