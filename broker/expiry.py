"""The deadlines of absent clients: session expiry and delayed wills. MQTT 5.0 sections 3.1.2.11.2 and 3.1.3.2.2."""

from __future__ import annotations

from collections.abc import Iterator

from broker.deadlines import Deadlines
from broker.session import NEVER


class SessionDeadlines:
    """When the session of an absent client ends, and when its will is due if that is earlier."""

    def __init__(self) -> None:
        self._deadlines: Deadlines[str] = Deadlines()
        self._ends_at: dict[str, float] = {}

    def start(self, client_id: str, now: float, expiry_interval: int, will_delay: int) -> None:
        """Begin with the time since the client has left; `will_delay` 0: there is no will to wait for."""
        times = []
        if expiry_interval != NEVER:
            self._ends_at[client_id] = now + expiry_interval
            times.append(now + expiry_interval)
        if will_delay:
            times.append(now + will_delay)
        if times:
            self._deadlines.set(client_id, min(times))

    def cancel(self, client_id: str) -> None:
        """The client is back, or its session has ended."""
        self._deadlines.cancel(client_id)
        self._ends_at.pop(client_id, None)

    def due(self, now: float) -> Iterator[tuple[str, bool]]:
        """Take out and yield the client ids whose time has come, with whether the session ends (else: its will is due).

        One by one: an exception in the consumer's loop leaves the deadlines of all others in place.
        """
        for client_id in self._deadlines.due(now):
            ends_at = self._ends_at.get(client_id)
            if ends_at is not None and ends_at <= now:
                del self._ends_at[client_id]
                yield client_id, True
            else:
                if ends_at is not None:
                    self._deadlines.set(client_id, ends_at)
                yield client_id, False
