"""The packet ids of QoS 2 publishes that a client has sent and not released. MQTT 5.0 section 4.3.3."""

from __future__ import annotations

from collections.abc import Iterable

from broker.observer import SessionObserver
from broker.receipt import Hold, join, join_all


class ReceivedIds:
    """The part of a session that tells a QoS 2 duplicate from a new message, each id with the hold of its PUBREC."""

    __slots__ = ("_holds", "_observer")

    def __init__(self, observer: SessionObserver | None = None) -> None:
        self._holds: dict[int, Hold | None] = {}
        self._observer = observer

    def __len__(self) -> int:
        return len(self._holds)

    def __contains__(self, packet_id: int) -> bool:
        return packet_id in self._holds

    def is_duplicate(self, packet_id: int) -> bool:
        """Return whether a publish with this id was received before and not released since.

        A publish whose hold failed was not taken over, so the next one with its id counts as new.
        """
        if packet_id not in self._holds:
            return False
        hold = self._holds[packet_id]
        return not (hold is not None and hold.done and hold.failed)

    def remember(self, packet_ids: Iterable[int], hold: Hold | None) -> Hold | None:
        """Remember the ids of accepted publishes until they are released; `hold` is the condition of their PUBREC.

        Return `hold`, joined with that of the store: the condition they are remembered with.
        """
        ids = tuple(packet_ids)
        observer = self._observer
        if observer is not None:
            stored = (observer.qos2_received(packet_id) for packet_id in ids)
            hold = join(hold, join_all([each for each in stored if each is not None]))
        for packet_id in ids:
            self._holds[packet_id] = hold
        return hold

    def hold_of(self, packet_id: int) -> Hold | None:
        """Return the hold that the first publish with this id waits for."""
        return self._holds.get(packet_id)

    def forget(self, packet_id: int, hold: Hold) -> None:
        """Forget an id whose `hold` failed, unless its publish has come again and waits for another hold."""
        if self._holds.get(packet_id) is hold:
            self.release(packet_id)

    def release(self, packet_id: int) -> bool:
        """Process PUBREL: from now on the id stands for a new message. Return False where it is not known."""
        if packet_id not in self._holds:
            return False
        del self._holds[packet_id]
        if self._observer is not None:
            self._observer.qos2_released(packet_id)
        return True
