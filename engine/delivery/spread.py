"""The lane of a record: by the hash of its key, so that records of one key stay in order."""

from __future__ import annotations

from zlib import crc32

from engine.language.template import Template
from engine.model.record import Chunk, Row


class Spread:
    """Spreads records over `lanes` by client, or by `lane_key`, a template."""

    def __init__(self, lanes: int, lane_key: str | None) -> None:
        """Raise `ConfigError` where `lane_key` is not a template."""
        self.name = f"{lanes} by {lane_key or 'client'}"
        """Two spreads of the same name send every record the same way."""
        self.lanes = lanes
        self.by_client = lane_key is None
        self._key = None if lane_key is None else Template.compile(lane_key, kind="text")

    def split(self, chunk: Chunk) -> list[tuple[int, Chunk]]:
        """Return the lanes of the rows of `chunk`, each with a chunk of its rows."""
        numbers = [self._number(chunk, index, row) for index, row in enumerate(chunk.rows)]
        present = dict.fromkeys(numbers)
        if len(present) == 1:
            return [(numbers[0], chunk)]
        return [(number, _only(chunk, [i for i, other in enumerate(numbers) if other == number])) for number in present]

    def _number(self, chunk: Chunk, index: int, row: Row) -> int:
        if self._key is None:
            return chunk.lane_hash % self.lanes
        columns = {
            "clientid": chunk.client_id, "_client": chunk.client_id, "_rule": chunk.rule_id,
            "_topic": chunk.topic(index), "_time": chunk.time_ms, **row,
        }  # fmt: skip
        try:
            key = self._key.render(columns)
        except Exception:
            # A row is never refused because of its key: its publisher would send it again without end.
            return chunk.lane_hash % self.lanes
        return crc32(key.encode("utf-8", "surrogatepass")) % self.lanes


def _only(chunk: Chunk, indices: list[int]) -> Chunk:
    topics = chunk.topics if isinstance(chunk.topics, str) else [chunk.topics[index] for index in indices]
    rows = [chunk.rows[index] for index in indices]
    return Chunk(chunk.rule_id, chunk.client_id, chunk.lane_hash, chunk.time_ms, topics, rows, chunk.trail)
