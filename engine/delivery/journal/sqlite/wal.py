"""Frames of SQLite's log (``-wal``), read without SQLite: which are intact, and which SQLite will accept.

    header   u32 magic │ u32 version │ u32 page size │ u32 sequence │ u64 salts │ u64 checksum of these 24 bytes
    frame    u32 page │ u32 pages of the file, 0 unless it ends a commit │ u64 salts │ u64 checksum │ the page

All integers are big-endian; each checksum goes on from that of the frame before, over the first 8 bytes and the page.
Layout: https://www.sqlite.org/fileformat2.html, section 4.

SQLite accepts the log up to the first frame that is not intact, and takes everything after it for never written. That
is right for a commit during which the power failed. But each commit of the journal is on disk before the next one
begins, so that only one can be torn: more commits after that frame mean damage, and they were acknowledged.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass

_MAGIC = 0x377F0682
"""Plus 1 where checksums are made of big-endian words."""
_HEADER_BYTES = 32
_FRAME_HEADER_BYTES = 24

_Sums = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of a page, at ``offset`` in the log."""

    page: int
    ends_commit: bool
    is_intact: bool
    is_accepted: bool
    """Whether it and all frames before it are intact."""
    offset: int


def read_frames(log: bytes, page_bytes: int) -> list[Frame]:
    """Return the frames that were written since the log last began anew, in the order in which they were written."""
    if len(log) < _HEADER_BYTES:
        return []
    order = ">" if log[3] & 1 else "<"
    sums = _checksum(log[:24], (0, 0), order)
    is_accepted = sums == struct.unpack_from(">II", log, 24) and struct.unpack_from(">I", log)[0] & ~1 == _MAGIC
    salts = log[16:24] if is_accepted else _first_salts(log, page_bytes)
    before = struct.unpack_from(">II", log, 24)
    frames = []
    for offset in _offsets(log, page_bytes):
        head = log[offset : offset + _FRAME_HEADER_BYTES]
        after = struct.unpack_from(">II", head, 16)
        if head[8:16] == salts:
            page, size = struct.unpack_from(">II", head)
            start = offset + _FRAME_HEADER_BYTES
            found = _checksum(log[start : start + page_bytes], _checksum(head[:8], before, order), order)
            is_accepted = is_accepted and found == after
            frames.append(Frame(page, bool(size), found == after, is_accepted, start))
        else:
            is_accepted = False
        before = after
    return frames


def count_ignored_commits(log: bytes, page_bytes: int) -> int:
    """Return the number of commits that SQLite will take for never written though they were, in whole or in part."""
    return sum(frame.ends_commit and not frame.is_accepted for frame in read_frames(log, page_bytes))


def _offsets(log: bytes, page_bytes: int) -> Iterator[int]:
    step = _FRAME_HEADER_BYTES + page_bytes
    yield from range(_HEADER_BYTES, len(log) - step + 1, step)


def _first_salts(log: bytes, page_bytes: int) -> bytes:
    """Return the salts of the first frame that was written at all, for a log whose header is damaged."""
    for offset in _offsets(log, page_bytes):
        if any(log[offset : offset + 4]):
            return log[offset + 8 : offset + 16]
    return b""


def _checksum(data: bytes, sums: _Sums, order: str) -> _Sums:
    first, second = sums
    words = iter(struct.unpack(f"{order}{len(data) // 4}I", data))
    for left, right in zip(words, words, strict=True):
        first = first + left + second & 0xFFFFFFFF
        second = second + right + first & 0xFFFFFFFF
    return first, second
