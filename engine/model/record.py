"""What a rule hands to sinks: chunks on the way in, batches and records on the way out.

A `Chunk` is what one rule made of one read of one client: rows that share their rule, client and time, so that the
hot path pays for those once. Its encoded form is made once, whatever the number of sinks, and is what the journal
stores. A `Batch` is what a sink writes: consecutive rows of one lane, whatever chunks they came in.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.model.jsontext import Undefined

Row = dict[str, Any]
"""One output of a rule, column by column. Holds JSON values and bytes; never `UNDEFINED` at its top level."""

_BIG_INT = 1
"""MessagePack extension type of an integer beyond 64 bits, as its decimal digits."""


def _encode_other(value: Any) -> Any:
    if isinstance(value, Undefined):
        return None
    raise TypeError(f"{type(value).__name__} can't be stored in a record")


def _decode_extension(code: int, data: memoryview) -> Any:
    if code == _BIG_INT:
        return int(bytes(data))
    raise ValueError(f"unknown extension {code} in a record")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_decoder = msgspec.msgpack.Decoder(ext_hook=_decode_extension)


class Chunk:
    """Rows of one rule from one client at one time.

    ``topics`` has the topic of each row, or is one string where all have the same; ``lane_hash`` is that of the lane
    key (by default the client id's); ``trail`` names the rules that led here by republishing, this one excluded.
    """

    __slots__ = ("_encoded", "client_id", "lane_hash", "rows", "rule_id", "time_ms", "topics", "trail")

    def __init__(
        self,
        rule_id: str,
        client_id: str,
        lane_hash: int,
        time_ms: int,
        topics: list[str] | str,
        rows: list[Row],
        trail: tuple[str, ...] = (),
    ) -> None:
        self.rule_id = rule_id
        self.client_id = client_id
        self.lane_hash = lane_hash
        self.time_ms = time_ms
        self.topics = topics
        self.rows = rows
        self.trail = trail
        self._encoded: bytes | None = None

    def __len__(self) -> int:
        return len(self.rows)

    def encode(self) -> bytes:
        """The stored form (MessagePack, made once). Raises `ValueError` where a row holds what can't be stored."""
        encoded = self._encoded
        if encoded is None:
            fields = (self.rule_id, self.client_id, self.lane_hash, self.time_ms, self.topics, self.trail, self.rows)
            try:
                try:
                    encoded = _encoder.encode(fields)
                except OverflowError:
                    encoded = _encoder.encode(_with_big_ints(fields))
            except (TypeError, UnicodeEncodeError, RecursionError) as error:
                raise ValueError(f"a row can't be stored: {error}") from error
            self._encoded = encoded
        return encoded

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Chunk:
        """A chunk from its stored form. Raises `ValueError` when `data` is none."""
        try:
            rule_id, client_id, lane_hash, time_ms, topics, trail, rows = _decoder.decode(data)
        except (msgspec.DecodeError, TypeError) as error:
            raise ValueError(f"not a stored chunk: {error}") from error
        chunk = cls(rule_id, client_id, lane_hash, time_ms, topics, rows, tuple(trail))
        chunk._encoded = bytes(data)
        return chunk

    def topic(self, index: int) -> str:
        """The topic of the row at `index`."""
        return self.topics if isinstance(self.topics, str) else self.topics[index]

    def part(self, start: int, stop: int) -> Chunk:
        """The rows from `start` up to `stop`, as a chunk of its own."""
        topics = self.topics if isinstance(self.topics, str) else self.topics[start:stop]
        rows = self.rows[start:stop]
        return Chunk(self.rule_id, self.client_id, self.lane_hash, self.time_ms, topics, rows, self.trail)


def _with_big_ints(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _with_big_ints(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_big_ints(item) for item in value]
    if isinstance(value, int) and not -(2**63) <= value < 2**64:
        return msgspec.msgpack.Ext(_BIG_INT, str(value).encode())
    return value


class RecordColumns(Row):
    """The columns of a record by their names, its own included; ``row`` is what ``${.}`` stands for."""

    __slots__ = ("row",)
    row: Row


@dataclass(frozen=True, slots=True)
class Record:
    """One row with where it comes from. ``seq`` counts from 1 within its sink and lane."""

    sink_id: str
    lane: int
    seq: int
    row: Row
    rule_id: str
    client_id: str
    topic: str
    time_ms: int
    trail: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Stable over retries and restarts, unique in the project: ``sink-lane-seq``."""
        return f"{self.sink_id}-{self.lane}-{self.seq}"

    def columns(self) -> RecordColumns:
        """The row, with what templates may ask of the record itself (names that begin with ``_``)."""
        columns = RecordColumns(
            _id=self.id, _rule=self.rule_id, _sink=self.sink_id, _client=self.client_id, _topic=self.topic,
            _time=self.time_ms,
        )  # fmt: skip
        columns.update(self.row)
        columns.row = self.row
        return columns


class Batch:
    """Rows of one lane in order. ``rows`` is what most sinks need; ``records`` says where each came from.

    ``rows[i]`` and ``records[i]`` are the same record; a sink reports on it by that index.
    """

    __slots__ = ("_chunks", "_records", "lane", "rows", "seqs", "sink_id")

    def __init__(
        self, sink_id: str, lane: int, seqs: Sequence[int], rows: list[Row], chunks: Sequence[Chunk] | Sequence[Record]
    ) -> None:
        """`chunks` hold exactly `rows`, in order; instead of chunks, the records themselves."""
        self.sink_id = sink_id
        self.lane = lane
        self.seqs = seqs
        self.rows = rows
        self._chunks = chunks
        self._records: list[Record] | None = None

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def records(self) -> list[Record]:
        """The rows as records; made when first asked for."""
        records = self._records
        if records is None:
            records = self._records = list(self._make_records())
        return records

    def origins(self) -> Iterator[tuple[Chunk | Record, int]]:
        """Where the rows come from, in order: each chunk or record with the number of its rows. Makes no records."""
        for item in self._chunks:
            yield item, 1 if isinstance(item, Record) else len(item.rows)

    def part(self, start: int, stop: int) -> Batch:
        """The records from `start` up to `stop`, as a batch of its own."""
        return Batch(self.sink_id, self.lane, self.seqs[start:stop], self.rows[start:stop], self.records[start:stop])

    def pick(self, indices: Sequence[int]) -> Batch:
        """The records at `indices`, as a batch of its own."""
        records = self.records
        picked = [records[index] for index in indices]
        return Batch(self.sink_id, self.lane, [r.seq for r in picked], [r.row for r in picked], picked)

    def _make_records(self) -> Iterator[Record]:
        index = 0
        for item in self._chunks:
            if isinstance(item, Record):
                yield item
                continue
            for offset, row in enumerate(item.rows):
                yield Record(
                    self.sink_id, self.lane, self.seqs[index], row, item.rule_id, item.client_id, item.topic(offset),
                    item.time_ms, item.trail,
                )  # fmt: skip
                index += 1
