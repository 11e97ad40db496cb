"""The counters of the broker: plain integers, which cost an addition each and are collected when somebody asks."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Stats:
    """Counts since the broker was made. Names follow the metrics of EMQX."""

    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    """PUBLISH packets of clients, without QoS 2 duplicates."""
    messages_sent: int = 0
    """PUBLISH packets sent to clients."""
    messages_acked: int = 0
    messages_refused: int = 0
    """Publishes that access control or the application refused."""
    authorizations_failed: int = 0
    """Permissions that were denied because asking for them failed or took too long."""
    messages_dropped: Counter[str] = field(default_factory=Counter)
    """Messages without a receiver, by reason."""
    deliveries_dropped: Counter[str] = field(default_factory=Counter)
    """Copies that were not delivered to their receiver, by reason."""
    connects: int = 0
    connects_refused: int = 0
    disconnects: Counter[str] = field(default_factory=Counter)
    """Ended connections, by reason."""

    def snapshot(self) -> dict[str, object]:
        """Return all counters as a new dict."""
        return asdict(self)
