"""The waiting records of one lane: a part in memory, and a gap that is only on disk.

    settled │ head: taken from here │ gap: only on disk │ tail: the newest │
                                    └ read in batches ──┘

While the sink keeps up there is no gap: committed records are appended to the head. When the head is full a gap opens,
new records are appended to the tail, and the tail's oldest are dropped into the gap as it overflows. The gap is read
into the head from its beginning; when it is read up to the tail, the tail is appended to the head.

- Numbers rise from head to gap to tail. Records are taken in this order, each once.
- Head and tail each hold at most half of ``size_max``, but at least one segment in the head.
- A number in the gap that is not found on disk is lost; it is passed over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.delivery.journal import Segment
from engine.model.record import Batch, Chunk


@dataclass(slots=True)
class Taken:
    """A batch that was taken, and its stored bytes."""

    batch: Batch
    size: int
    time_ms: int
    """When the message of its first record came."""


class LaneQueue:
    """The waiting records of one lane after `cursor`. Sizes are bytes as stored."""

    __slots__ = ("_gap_from", "_half", "_head", "_lane", "_sink_id", "_tail", "_tail_size", "rows", "size")

    def __init__(self, sink_id: str, lane: int, *, cursor: int, committed: int, size_max: int) -> None:
        self._sink_id = sink_id
        self._lane = lane
        self._half = size_max // 2
        self._head: deque[Segment] = deque()
        self._gap_from: int | None = cursor + 1 if committed > cursor else None
        self._tail: deque[Segment] = deque()
        self._tail_size = 0
        self.rows = 0
        """Records that can be taken."""
        self.size = 0

    def committed(self, segment: Segment) -> None:
        """Append records that were committed."""
        if self._gap_from is None:
            # An empty queue takes a segment of any size: it has to be in memory to be sent.
            if self.size + segment.size <= self._half or not self._head:
                self._push(segment)
                return
            # Full: from here on the records are on disk, and the newest of them in the tail as well.
            self._gap_from = segment.first_seq
        self._tail.append(segment)
        self._tail_size += segment.size
        # The oldest of the tail falls into the gap before it.
        while self._tail_size > self._half:
            self._tail_size -= self._tail.popleft().size

    def gap(self, committed: int) -> tuple[int, int] | None:
        """Return the first and last number of the gap, or None; `committed` is the last number on disk."""
        if self._gap_from is None:
            return None
        return self._gap_from, self._tail[0].first_seq - 1 if self._tail else committed

    def fill(self, segments: list[Segment], read_to: int, committed: int) -> None:
        """Move records of the gap to the head: `segments` are all that was found up to `read_to`."""
        start = self._gap_from
        if start is None:
            return
        for segment in segments:
            fresh = after(segment, start - 1)
            if fresh is not None:
                self._push(fresh)
        self._gap_from = max(start, read_to + 1)
        self._join(committed)

    def skip_to(self, seq: int, committed: int) -> None:
        """Forget everything up to `seq`. If it raises, nothing has changed."""
        # Computed first and assigned last: an exception leaves the queue as it was.
        head = _after_all(self._head, seq)
        gap_from, tail, tail_size = self._gap_from, self._tail, self._tail_size
        if gap_from is not None and gap_from <= seq:
            gap_from = seq + 1
            tail = _after_all(tail, seq)
            tail_size = sum([segment.size for segment in tail])
            if gap_from > (tail[0].first_seq - 1 if tail else committed):
                head += tail
                gap_from, tail, tail_size = None, deque(), 0
        rows, size = sum([segment.rows for segment in head]), sum([segment.size for segment in head])
        self._head, self._gap_from, self._tail, self._tail_size = head, gap_from, tail, tail_size
        self.rows, self.size = rows, size

    def take(self, rows_max: int, size_max: int, last_seq: int) -> Taken | None:
        """Take the next records: up to the first limit that is reached, but at least one, and only up to `last_seq`."""
        taken: list[Segment] = []
        rows = size = 0
        while self._head and rows < rows_max:
            segment = self._head[0]
            count = min(segment.rows, rows_max - rows, last_seq - segment.first_seq + 1)
            # A record larger than the limit makes a batch of its own: it would wait for ever otherwise.
            if count > 0 and size + segment.size > size_max:
                count = min(count, _rows_within(segment, size_max - size) or (0 if rows else 1))
            if count <= 0:
                break
            self._head.popleft()
            if count < segment.rows:
                segment, rest = split(segment, count)
                self._head.appendleft(rest)
            taken.append(segment)
            rows += segment.rows
            size += segment.size
        if not taken:
            return None
        self.rows -= rows
        self.size -= size
        return Taken(self._batch(taken), size, taken[0].chunks[0].time_ms)

    @property
    def first(self) -> Segment | None:
        """The segment that will be taken next."""
        return self._head[0] if self._head else None

    def _batch(self, segments: list[Segment]) -> Batch:
        chunks = [chunk for segment in segments for chunk in segment.chunks]
        rows = [row for chunk in chunks for row in chunk.rows]
        first, last = segments[0].first_seq, segments[-1].last_seq
        # A range costs nothing for each record; only after a loss do the numbers have gaps.
        seqs: Sequence[int] = range(first, last + 1)
        if len(seqs) != len(rows):
            seqs = [seq for segment in segments for seq in range(segment.first_seq, segment.last_seq + 1)]
        return Batch(self._sink_id, self._lane, seqs, rows, chunks)

    def _push(self, segment: Segment) -> None:
        self._head.append(segment)
        self.rows += segment.rows
        self.size += segment.size

    def _join(self, committed: int) -> None:
        """Append the tail to the head where nothing is left in the gap."""
        gap = self.gap(committed)
        if gap is None or gap[0] <= gap[1]:
            return
        self._gap_from = None
        for segment in self._tail:
            self._push(segment)
        self._tail.clear()
        self._tail_size = 0


def split(segment: Segment, rows: int) -> tuple[Segment, Segment]:
    """Return the first `rows` records of `segment`, and the rest; sizes are shared in proportion."""
    front: list[Chunk] = []
    missing = rows
    for index, chunk in enumerate(segment.chunks):
        count = len(chunk.rows)
        if count > missing:
            rest = segment.chunks[index:]
            if missing:
                front.append(chunk.part(0, missing))
                rest[0] = chunk.part(missing, count)
            break
        front.append(chunk)
        missing -= count
    else:  # no chunk was cut: the segment ends at `rows` or before
        raise ValueError(f"a segment of {segment.rows} records has no rest after {rows}")
    size = segment.size * rows // segment.rows
    return (
        Segment(segment.first_seq, rows, size, front),
        Segment(segment.first_seq + rows, segment.rows - rows, segment.size - size, rest),
    )


def after(segment: Segment, seq: int) -> Segment | None:
    """Return the records of `segment` with numbers above `seq`, or None where it has no such."""
    if segment.first_seq > seq:
        return segment
    if segment.last_seq <= seq:
        return None
    return split(segment, seq - segment.first_seq + 1)[1]


def _after_all(segments: Iterable[Segment], seq: int) -> deque[Segment]:
    return deque([part for segment in segments if (part := after(segment, seq)) is not None])


def _rows_within(segment: Segment, size: int) -> int:
    """Return how many of the first records fit into `size` bytes; those of a chunk count the same."""
    rows = 0
    for chunk in segment.chunks:
        count, length = len(chunk.rows), len(chunk.encode())
        if length > size:
            return rows + size * count // length
        rows += count
        size -= length
    return rows
