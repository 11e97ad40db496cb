"""How the records of one commit, sink and lane become one blob, and back.

    u32 number of chunks │ u32 length of each │ the chunks, as `Chunk.encode` made them       (little-endian)

The row's ``crc`` column holds the CRC-32 of the whole blob.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from zlib import crc32

from engine.record import Chunk

__all__ = ["crc32", "pack", "row_bytes", "unpack"]


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
