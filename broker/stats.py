"""The broker's counters: plain integers, read by whoever wants to show them."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass, field


@dataclass(slots=True)
class Stats:
    """Counts since the broker started. Names follow EMQX's metrics."""

    bytes_received: int = 0
    bytes_sent: int = 0
    messages_received: int = 0
    """PUBLISH packets taken from clients, without QoS 2 duplicates."""
    messages_sent: int = 0
    """PUBLISH packets sent to clients."""
    messages_acked: int = 0
    messages_refused: int = 0
    """Publishes that access control or the application did not accept."""
    authorizations_failed: int = 0
    """Permissions that were denied because asking for them failed or took too long."""
    messages_dropped: Counter[str] = field(default_factory=Counter)
    """Messages nobody got, by reason."""
    deliveries_dropped: Counter[str] = field(default_factory=Counter)
    """Copies that one receiver did not get, by reason."""
    connects: int = 0
    connects_refused: int = 0
    disconnects: Counter[str] = field(default_factory=Counter)
    """Connections that ended, by reason."""

    def snapshot(self) -> dict[str, object]:
        """All counters as a new dict."""
        return asdict(self)
