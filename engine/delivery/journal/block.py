"""How the records of one commit, sink and lane become one row with one blob, and back.

    u32 number of chunks │ u32 length of each │ the chunks, as `Chunk.encode` made them       (little-endian)

The row's ``crc`` column holds the CRC-32 of the other columns and the blob, so that a block is not taken for one of
another place either. In format 1 it was that of the blob alone.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple
from zlib import crc32

from engine.model.record import Chunk

__all__ = ["Head", "checksum", "pack", "row_bytes", "verified"]


class Head(NamedTuple):
    """The columns of a block but its id, in the table's order, up to the checksum."""

    lane: int
    seq: int
    rows: int
    size: int
    time_ms: int
    cursor: int
    sink: str


def checksum(head: Head, data: bytes) -> int:
    """What the ``crc`` column of a block holds."""
    *numbers, sink = head
    return crc32(struct.pack("<6q", *numbers) + sink.encode(), crc32(data))


def verified(head: Head, crc: int, data: bytes) -> list[Chunk]:
    """The chunks of a stored block. Raises `ValueError` where it is not what was written."""
    try:
        is_sound = crc in (checksum(head, data), crc32(data))
    except (TypeError, AttributeError, struct.error):  # where numbers and bytes should be there is something else
        is_sound = False
    if not is_sound:
        raise ValueError("its checksum does not hold")
    chunks = unpack(data)
    if sum([len(chunk.rows) for chunk in chunks]) != head.rows:
        raise ValueError("it holds another number of records than it says")
    return chunks


def pack(chunks: Sequence[Chunk]) -> bytes:
    """`chunks` as one blob."""
    encoded = [chunk.encode() for chunk in chunks]
    count = len(encoded)
    return b"".join((struct.pack(f"<{count + 1}I", count, *map(len, encoded)), *encoded))


def unpack(data: bytes) -> list[Chunk]:
    """The chunks of a blob. Raises `ValueError` when `data` is none."""
    try:
        (count,) = struct.unpack_from("<I", data)
        lengths = struct.unpack_from(f"<{count}I", data, 4)
    except struct.error as error:
        raise ValueError(f"not a block: {error}") from error
    position = 4 * (count + 1)
    if position + sum(lengths) != len(data):
        raise ValueError("not a block: its length is wrong")
    view = memoryview(data)
    chunks = []
    for length in lengths:
        chunks.append(Chunk.decode(view[position : position + length]))
        position += length
    return chunks


def row_bytes(chunk: Chunk, start: int, stop: int) -> int:
    """The share of the chunk's stored bytes that the rows from `start` up to `stop` count for; shares add up."""
    size, rows = len(chunk.encode()), len(chunk.rows)
    return size * stop // rows - size * start // rows
