"""The durable queue between rules and sinks. See `engine.delivery.journal.journal` for how it works."""

from engine.delivery.journal.journal import Journal
from engine.delivery.journal.opening import RecoveryReport
from engine.delivery.journal.segment import Segment
from engine.delivery.journal.state import LaneLog, SinkLog
from engine.delivery.journal.ticket import Ticket

__all__ = ["Journal", "LaneLog", "RecoveryReport", "Segment", "SinkLog", "Ticket"]
