"""What is due when: one heap for all time-outs of the broker, looked at once a second instead of a timer each."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from typing import Generic, TypeVar

K = TypeVar("K")


class Deadlines(Generic[K]):
    """A deadline per key. Setting it again replaces it; entries that were replaced are weeded out when they abound."""

    __slots__ = ("_heap", "_serial", "_when")

    def __init__(self) -> None:
        self._heap: list[tuple[float, int, K]] = []
        self._when: dict[K, float] = {}
        self._serial = 0

    def __len__(self) -> int:
        return len(self._when)

    def set(self, key: K, when: float) -> None:
        """`key` is due at `when`."""
        if self._when.get(key) == when:
            return
        self._when[key] = when
        self._serial += 1
        heapq.heappush(self._heap, (when, self._serial, key))
        if len(self._heap) > 2 * len(self._when) + 64:
            self._compact()

    def cancel(self, key: K) -> None:
        """`key` is not due any more."""
        self._when.pop(key, None)

    def due(self, now: float) -> Iterator[K]:
        """Take out and give every key whose time has come."""
        while self._heap and self._heap[0][0] <= now:
            when, _, key = heapq.heappop(self._heap)
            if self._when.get(key) == when:
                del self._when[key]
                yield key

    def _compact(self) -> None:
        self._heap = [entry for entry in self._heap if self._when.get(entry[2]) == entry[0]]
        heapq.heapify(self._heap)
