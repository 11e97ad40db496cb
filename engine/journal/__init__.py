"""The durable queue between rules and sinks. See `engine.journal.journal` for how it works."""

from engine.journal.journal import Journal
from engine.journal.opening import RecoveryReport
from engine.journal.segment import Segment
from engine.journal.state import LaneLog, SinkLog
from engine.journal.ticket import Ticket

__all__ = ["Journal", "LaneLog", "RecoveryReport", "Segment", "SinkLog", "Ticket"]
