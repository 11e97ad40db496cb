"""Deadlines by key in one heap, checked at intervals: a timer for each connection and session would cost far more."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Any, Final, Generic, TypeVar

K = TypeVar("K")

_GONE: Final = object()


class Deadlines(Generic[K]):
    """One deadline for each key; setting it again replaces it.

    A replaced or cancelled entry stays in the heap, without its key, and is skipped when it is due. The heap is rebuilt
    when more than half of it is such entries, so that setting a deadline again and again does not make it grow.
    """

    __slots__ = ("_entries", "_heap", "_serial")

    def __init__(self) -> None:
        self._heap: list[list[Any]] = []
        self._entries: dict[K, list[Any]] = {}
        """The entry of each key: its time, a serial number since keys may have no order, and the key.

        A list, so that the key can be taken out: the heap would keep a closed connection alive until its time came.
        """
        self._serial = 0

    def __len__(self) -> int:
        return len(self._entries)

    def set(self, key: K, when: float) -> None:
        """Make `key` due at `when`."""
        entry = self._entries.get(key)
        if entry is not None:
            if entry[0] == when:
                return
            entry[2] = _GONE
        self._serial += 1
        entry = self._entries[key] = [when, self._serial, key]
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 2 * len(self._entries) + 64:  # 64: small heaps are not worth rebuilding
            self._compact()

    def cancel(self, key: K) -> None:
        """Remove the deadline of `key`, if it has one."""
        entry = self._entries.pop(key, None)
        if entry is not None:
            entry[2] = _GONE

    def due(self, now: float) -> Iterator[K]:
        """Remove and yield every key whose deadline has passed, earliest first."""
        while self._heap and self._heap[0][0] <= now:
            key = heapq.heappop(self._heap)[2]
            if key is not _GONE:
                del self._entries[key]
                yield key

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if entry[2] is not _GONE]
        heapq.heapify(self._heap)
