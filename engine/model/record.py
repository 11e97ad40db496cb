"""Chunks (rows as the journal stores them), records and batches (rows as sinks write them).

A `Chunk` holds the rows that one rule made of one read of one client. They share rule, client and time, so that these
are stored once. A chunk is encoded once, whatever the number of sinks. A `Batch` holds consecutive rows of one lane, of
one or more chunks; a `Record` is one of its rows with its origin.

Stored form of a chunk (MessagePack): an array of rule id, client id, lane hash, time, topics, trail, rows. Values are
stored as MessagePack has them; integers beyond 64 bits are extensions:

    1    decimal digits; read, no longer written: Python limits the digits to 4,300
    2    two's complement, big-endian, any length
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import msgspec

from engine.model.jsontext import Undefined
from engine.model.value import kind_of

Row = dict[str, Any]
"""One output of a rule: value by column name. Holds JSON values and bytes; never `UNDEFINED` at its top level."""

_DECIMAL_INT = 1
_BINARY_INT = 2
_INT64_MIN, _UINT64_MAX = -(2**63), 2**64 - 1  # the range of MessagePack's own integers

_Fields = tuple[str, str, int, int, list[str] | str, tuple[str, ...], list[dict[Any, Any]]]
"""The stored fields of a chunk, in order."""


def _encode_other(value: Any) -> Any:
    if isinstance(value, Undefined):
        return None
    raise TypeError(f"expected a JSON value or bytes, found {kind_of(value)}")


def _decode_extension(code: int, data: memoryview) -> Any:
    if code == _BINARY_INT:
        return int.from_bytes(data, "big", signed=True)
    if code == _DECIMAL_INT:
        return int(bytes(data))
    raise ValueError(f"expected extension {_DECIMAL_INT} or {_BINARY_INT}, found {code}")


_encoder = msgspec.msgpack.Encoder(enc_hook=_encode_other)
_decoder = msgspec.msgpack.Decoder(_Fields, ext_hook=_decode_extension)


class Chunk:
    """Rows of one rule from one client at one time.

    ``topics`` is a list with the topic of each row, or one string where all rows have the same topic. ``lane_hash`` is
    the hash of the lane key (by default the client id). ``trail`` holds the ids of the rules whose republishing led
    here, without this one.
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
        """Return the stored form, made by the first call.

        Raise `ValueError`, and nothing else but `MemoryError`, where a row holds a value without a stored form.
        """
        encoded = self._encoded
        if encoded is None:
            fields = (self.rule_id, self.client_id, self.lane_hash, self.time_ms, self.topics, self.trail, self.rows)
            try:
                encoded = _encoded(fields)
            except MemoryError:
                raise
            except Exception as error:  # objects of foreign types run code of their own while they are encoded
                raise ValueError(f"a row can't be stored: {_reason(error)}") from error
            self._encoded = encoded
        return encoded

    @classmethod
    def decode(cls, data: bytes | memoryview) -> Chunk:
        """Return the chunk of a stored form. Raise `ValueError` where `data` is not a stored chunk."""
        try:
            rule_id, client_id, lane_hash, time_ms, topics, trail, rows = _decoded(data)
        except (msgspec.MsgspecError, ValueError, TypeError, RecursionError) as error:
            raise ValueError(f"not a stored chunk: {error}") from error
        chunk = cls(rule_id, client_id, lane_hash, time_ms, topics, rows, trail)
        chunk._encoded = bytes(data)
        return chunk

    def topic(self, index: int) -> str:
        """Return the topic of the row at `index`."""
        return self.topics if isinstance(self.topics, str) else self.topics[index]

    def part(self, start: int, stop: int) -> Chunk:
        """Return a chunk of the rows from `start` up to `stop`."""
        topics = self.topics if isinstance(self.topics, str) else self.topics[start:stop]
        rows = self.rows[start:stop]
        return Chunk(self.rule_id, self.client_id, self.lane_hash, self.time_ms, topics, rows, self.trail)


def _encoded(fields: tuple[Any, ...]) -> bytes:
    try:
        return _encoder.encode(fields)
    except OverflowError:  # an integer beyond 64 bits, which msgspec asks no hook about
        return _encoder.encode(_with_extensions(fields))


def _with_extensions(value: Any) -> Any:
    """Return `value` with integers beyond 64 bits as extensions."""
    if isinstance(value, dict):
        return {key: _with_extensions(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_with_extensions(item) for item in value]
    if type(value) is int and not _INT64_MIN <= value <= _UINT64_MAX:
        # `bit_length` does not count the sign's bit, which needs a byte of its own where the others fill theirs.
        data = value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True)
        return msgspec.msgpack.Ext(_BINARY_INT, data)
    return value


def _reason(error: Exception) -> str:
    """Return why a row has no stored form. Asks no foreign exception for its text, which may raise."""
    if isinstance(error, RecursionError):
        return "a value is nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "a text holds half of a surrogate pair, which UTF-8 can't carry"
    if isinstance(error, OverflowError):
        return "a key of a map is an integer beyond 64 bits"
    return str(error) if type(error) is TypeError else type(error).__name__


def _decoded(data: bytes | memoryview) -> _Fields:
    try:
        return _decoder.decode(data)
    except RecursionError:
        # The levels of a value count as frames of the caller's stack, of which Python allows 1,000. A value that could
        # be encoded must not pass for damage because it is read from a deeper stack: read it on that of a new thread.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(_decoder.decode, data).result()


class RecordColumns(Row):
    """Columns of a record for templates: its own (``_id`` …) and its row's. ``row`` is the row alone, for ``${.}``."""

    __slots__ = ("row",)
    row: Row


@dataclass(frozen=True, slots=True)
class Record:
    """One row with its origin. ``seq`` counts from 1 within its sink and lane."""

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
        """Idempotency key ``sink-lane-seq``: unique in the project, the same over retries and restarts."""
        return f"{self.sink_id}-{self.lane}-{self.seq}"

    def columns(self) -> RecordColumns:
        """Return the columns of the record (names that begin with ``_``) and of its row, whose columns win."""
        columns = RecordColumns(
            _id=self.id, _rule=self.rule_id, _sink=self.sink_id, _client=self.client_id, _topic=self.topic,
            _time=self.time_ms,
        )  # fmt: skip
        columns.update(self.row)
        columns.row = self.row
        return columns


class Batch:
    """Rows of one lane in order. Most sinks need ``rows`` alone; ``records`` adds the origin of each row.

    ``rows[i]`` and ``records[i]`` are the same record; a sink reports its failure by that index.
    """

    __slots__ = ("_chunks", "_records", "lane", "rows", "seqs", "sink_id")

    def __init__(
        self, sink_id: str, lane: int, seqs: Sequence[int], rows: list[Row], chunks: Sequence[Chunk] | Sequence[Record]
    ) -> None:
        """`chunks` hold exactly `rows`, in order; records may be given instead of chunks."""
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
        """The rows as records, made by the first read."""
        records = self._records
        if records is None:
            records = self._records = list(self._make_records())
        return records

    def origins(self) -> Iterator[tuple[Chunk | Record, int]]:
        """Yield the origins of the rows in order: each chunk or record with its number of rows. Makes no records."""
        for item in self._chunks:
            yield item, 1 if isinstance(item, Record) else len(item.rows)

    def part(self, start: int, stop: int) -> Batch:
        """Return a batch of the records from `start` up to `stop`."""
        return Batch(self.sink_id, self.lane, self.seqs[start:stop], self.rows[start:stop], self.records[start:stop])

    def pick(self, indices: Sequence[int]) -> Batch:
        """Return a batch of the records at `indices`."""
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
