"""A block: the records of one commit, sink and lane as one row with one blob.

    u32 number of chunks │ u32 length of each │ the chunks, as `Chunk.encode` made them       (little-endian)

The ``crc`` column holds the CRC-32 of the other columns and the blob, so that a block is not taken for one of another
place either. In format 1 it was that of the blob alone, which is still read.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from engine.model.record import Chunk


class BlockHeader(NamedTuple):
    """The columns of a block between its id and its checksum, in the table's order."""

    lane: int
    seq: int
    rows: int
    size: int
    time_ms: int
    cursor: int
    sink: str


def checksum(header: BlockHeader, data: bytes) -> int:
    """Return the value of the ``crc`` column."""
    *numbers, sink = header
    return crc32(struct.pack("<6q", *numbers) + sink.encode(), crc32(data))


def load_block(header: BlockHeader, crc: int, data: bytes) -> list[Chunk]:
    """Return the chunks of a stored block. Raise `ValueError` where it does not hold what was written."""
    try:
        matches = crc in (checksum(header, data), crc32(data))
    except (TypeError, AttributeError, struct.error):  # the damage has changed the type of a column
        matches = False
    if not matches:
        raise ValueError("the block does not match its checksum")
    chunks = unpack(data)
    rows = sum([len(chunk.rows) for chunk in chunks])
    if rows != header.rows:
        raise ValueError(f"the block should hold {header.rows} records, and holds {rows}")
    return chunks


def pack(chunks: Sequence[Chunk]) -> bytes:
    """Return `chunks` as one blob."""
    encoded = [chunk.encode() for chunk in chunks]
    count = len(encoded)
    return b"".join((struct.pack(f"<{count + 1}I", count, *map(len, encoded)), *encoded))


def unpack(data: bytes) -> list[Chunk]:
    """Return the chunks of a blob. Raise `ValueError` where `data` is not one."""
    try:
        (count,) = struct.unpack_from("<I", data)
        lengths = struct.unpack_from(f"<{count}I", data, 4)
    except struct.error as error:
        raise ValueError(f"not a block: {error}") from error
    position = 4 * (count + 1)
    if position + sum(lengths) != len(data):
        raise ValueError(f"not a block: it states {position + sum(lengths)} bytes, and has {len(data)}")
    view = memoryview(data)
    chunks = []
    for length in lengths:
        chunks.append(Chunk.decode(view[position : position + length]))
        position += length
    return chunks
