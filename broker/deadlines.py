"""Deadlines by key in one heap, checked at intervals: a timer for each connection and session would cost far more."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")


class Deadlines(Generic[K]):
    """One deadline for each key; setting it again replaces it.

    A replaced or cancelled entry stays in the heap and is skipped when it is due. The heap is rebuilt when more than
    half of it is such entries, so that setting a deadline again and again does not make it grow.
    """

    __slots__ = ("_heap", "_serial", "_when")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._when: dict[K, float] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._when)

    def set(self, key: K, when: float) -> None:
        """Make `key` due at `when`."""
        if self._when.get(key) == when:
            return
        self._when[key] = when
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, key))  # the serial number: keys may have no order
        if len(self._heap) > 2 * len(self._when) + 64:  # 64: small heaps are not worth rebuilding
            self._compact()

    def cancel(self, key: K) -> None:
        """Remove the deadline of `key`, if it has one."""
        self._when.pop(key, None)

    def due(self, now: float) -> Iterator[K]:
        """Remove and yield every key whose deadline has passed, earliest first."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._when.get(key) == when:
                del self._when[key]
                yield key

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._when.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
