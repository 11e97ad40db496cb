"""Delivery of records from the journal to sinks. `DeliveryService` owns an `Outbox` for each sink.

outbox      takes chunks for one sink; its life, its counters
admission   limits of the buffer
spread      which lane a record takes
barrier     order when keys move between lanes
unstorable  rows that cannot be stored, and `preview` of them
lane        delivers the records of one lane, one batch at a time
queue       the lane's waiting records, in memory and on disk
progress    the next step after each answer of the sink
connection  the connection of one sink, shared by its lanes
journal     the durable queue on disk
"""

from engine.delivery.journal import StoredLetter
from engine.delivery.outbox import Outbox
from engine.delivery.service import DeliveryService
from engine.delivery.status import SinkStatus

__all__ = ["DeliveryService", "Outbox", "SinkStatus", "StoredLetter"]
