"""Rows from the pages of a damaged SQLite file, read without its trees.

SQLite refuses a file that is shorter than its header states, and cannot walk a tree of which one page is damaged. Rows
stand in leaf pages, each complete but for overflow pages, and are read here page by page. Whether a row is genuine is
for the caller to decide: each may be garbage, or a row that was deleted long ago.

Layout: https://www.sqlite.org/fileformat2.html, sections 1.2 (header), 1.5 (free pages), 1.6 (leaf pages) and 2.1
(records). All integers big-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from typing import BinaryIO

from engine.delivery.journal.sqlite.wal import read_frames

Value = int | float | str | bytes | None
TableRow = tuple[int, tuple[Value, ...]]
"""Row id and columns of a table row."""

_MAGIC = b"SQLite format 3\x00"
_LEAF = 0x0D
_HEADER_BYTES = 100


class Pages:
    """The pages of a file; where its log has newer intact images of them, these."""

    def __init__(self, file: BinaryIO, page_bytes: int, wal: bytes = b"") -> None:
        """`page_bytes` is used where the file's header does not state it."""
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        header = os.pread(file.fileno(), _HEADER_BYTES, 0)
        if header.startswith(_MAGIC) and len(header) == _HEADER_BYTES:
            (stated,) = struct.unpack_from(">H", header, 16)
            if stated == 1 or (stated >= 512 and stated & (stated - 1) == 0):
                page_bytes = 65536 if stated == 1 else stated
        self._page_bytes = page_bytes
        images = [(frame, wal[frame.offset : frame.offset + page_bytes]) for frame in read_frames(wal, page_bytes)]
        self._log = {frame.page: image for frame, image in images if frame.is_intact}
        self._images = [(frame.page, image) for frame, image in images]

    def rows(self) -> Iterator[TableRow]:
        """Yield every row of every leaf page that is in use, as far as it can be decoded."""
        free = self._free_pages()
        count = max(self._size // self._page_bytes, max(self._log, default=0))
        for number in range(1, count + 1):
            if number not in free:
                yield from self._rows_of(number, self._page(number))

    def all_rows_of_log(self) -> Iterator[TableRow]:
        """Yield every row of every leaf page in the log, newest first, of damaged and of replaced images too."""
        for number, image in reversed(self._images):
            yield from self._rows_of(number, image)

    def _page(self, number: int) -> bytes:
        page = self._log.get(number)
        if page is None:
            page = os.pread(self._file.fileno(), self._page_bytes, (number - 1) * self._page_bytes)
        return page

    def _rows_of(self, number: int, page: bytes) -> Iterator[TableRow]:
        start = _HEADER_BYTES if number == 1 else 0
        if len(page) < start + 8 or page[start] != _LEAF:
            return
        (count,) = struct.unpack_from(">H", page, start + 3)
        if start + 8 + 2 * count > len(page):
            return
        for offset in struct.unpack_from(f">{count}H", page, start + 8):
            try:
                row = self._row(page, offset)
            except (ValueError, IndexError, struct.error):
                continue
            yield row

    def _row(self, page: bytes, offset: int) -> TableRow:
        size, offset = _varint(page, offset)
        row_id, offset = _varint(page, offset)
        return row_id, _columns(self._payload(page, offset, size))

    def _payload(self, page: bytes, offset: int, size: int) -> bytes:
        usable = self._page_bytes
        if size > self._size + len(self._log) * usable:
            raise ValueError("longer than the file")
        local = _local_bytes(size, usable)
        parts = [page[offset : offset + local]]
        missing = size - local
        following = struct.unpack_from(">I", page, offset + local)[0] if missing else 0
        while missing > 0:
            overflow = self._page(following) if following else b""
            if len(overflow) < usable:
                raise ValueError("an overflow page is missing")
            (following,) = struct.unpack_from(">I", overflow)
            parts.append(overflow[4 : 4 + missing])
            missing -= usable - 4
        return b"".join(parts)

    def _free_pages(self) -> set[int]:
        """Return the pages on the free list, as far as it can be followed; they hold deleted rows."""
        free: set[int] = set()
        header = self._page(1)
        if len(header) < self._page_bytes or not header.startswith(_MAGIC):
            return free
        (trunk,) = struct.unpack_from(">I", header, 32)
        while trunk and trunk not in free:
            free.add(trunk)
            page = self._page(trunk)
            if len(page) < self._page_bytes:
                break
            trunk, count = struct.unpack_from(">II", page)
            free.update(struct.unpack_from(f">{min(count, self._page_bytes // 4 - 2)}I", page, 8))
        return free


def _local_bytes(size: int, usable: int) -> int:
    """Return how many bytes of a leaf cell's payload stand on its own page (section 1.6 of the file format)."""
    if size <= usable - 35:
        return size
    least = (usable - 12) * 32 // 255 - 23
    fitting = least + (size - least) % (usable - 4)
    return fitting if fitting <= usable - 35 else least


def _columns(record: bytes) -> tuple[Value, ...]:
    header_bytes, offset = _varint(record, 0)
    kinds = []
    while offset < header_bytes:
        kind, offset = _varint(record, offset)
        kinds.append(kind)
    values = []
    for kind in kinds:
        value, offset = _value(record, offset, kind)
        values.append(value)
    if offset != len(record):
        raise ValueError("a record of another length than its header says")
    return tuple(values)


_INTEGER_BYTES: Sequence[int] = (0, 1, 2, 3, 4, 6, 8)


def _value(record: bytes, offset: int, kind: int) -> tuple[Value, int]:
    if kind == 0:
        return None, offset
    if kind in (8, 9):
        return kind - 8, offset
    if kind == 7:
        return struct.unpack_from(">d", record, offset)[0], offset + 8
    if kind < 7:
        length = _INTEGER_BYTES[kind]
    elif kind >= 12:
        length = (kind - 12) // 2
    else:
        raise ValueError(f"a value of the unknown kind {kind}")
    data = record[offset : offset + length]
    if len(data) != length:
        raise ValueError("a value ends early")
    if kind < 7:
        return int.from_bytes(data, "big", signed=True), offset + length
    return (data.decode() if kind % 2 else data), offset + length


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for index in range(8):
        byte = data[offset + index]
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, offset + index + 1
    value = value << 8 | data[offset + 8]
    return value - (1 << 64 if value >= 1 << 63 else 0), offset + 9
