"""Appending to one file, with rotation by size and time, and repair of a torn last line."""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import structlog

from connectors._shared.disk import sync_folder
from connectors.file.archive import Archive
from connectors.file.options import FileConfig
from engine.model import jsontext

log = structlog.get_logger()

_TAIL_BLOCK_BYTES = 64 << 10
"""Bytes read at a time in search of the last line: longer than nearly every line."""


class Appender:
    """An open file. A write that fails half-way is cut off again, so that no torn line stands between whole ones."""

    def __init__(self, path: Path, config: FileConfig, archive: Archive) -> None:
        self.path = path
        self._config = config
        self._archive = archive
        self._needs_sync = False
        self._descriptor = -1
        self._open()

    def append(self, data: bytes, now_ms: int) -> None:
        """Write `data` at the end, after a rotation if one is due. Raise `OSError`; then nothing is written."""
        if self._is_regular and self._size and self._is_full(len(data), now_ms):
            self._rotate()
        if not self._size:
            self._period = self._period_of(now_ms / 1000)
        try:
            _write_all(self._descriptor, data)
            self._needs_sync = self._is_regular
            if self._config.fsync == "always":
                self.sync()
        except OSError:
            with suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(data)

    def sync(self) -> None:
        """Sync the file to disk. After a failure it must be opened again: the kernel drops the error with the pages."""
        if self._needs_sync:
            os.fdatasync(self._descriptor)
        self._needs_sync = False

    def close(self) -> None:
        """Close the file; may be called again."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def is_in_place(self) -> bool:
        """Whether `path` is still this file: logrotate and people move files away, and truncate them."""
        try:
            status = os.stat(self.path)
        except OSError:
            return False
        if self._is_regular:
            self._size = status.st_size
        return (status.st_dev, status.st_ino) == self._id

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC
        try:
            self._descriptor = os.open(self.path, flags)
        except FileNotFoundError:
            self._descriptor = os.open(self.path, flags | os.O_CREAT, 0o666)
            if self._config.fsync != "never":
                sync_folder(self.path.parent)
        status = os.fstat(self._descriptor)
        self._id = (status.st_dev, status.st_ino)
        self._is_regular = stat.S_ISREG(status.st_mode)
        self._period = self._period_of(status.st_mtime)
        try:
            self._size = self._repair(status.st_size) if self._is_regular else 0
        except OSError:
            self.close()
            raise

    def _repair(self, size: int) -> int:
        """Cut off a last line without a line end, which a crash left. Only add the line end to a whole JSON object."""
        tail = _last_line(self._descriptor, size)
        if not tail:
            return size
        if self._config.format == "jsonl" and _is_json(tail):
            os.write(self._descriptor, b"\n")
            return size + 1
        log.warning("torn last line cut off", path=str(self.path), bytes=len(tail))
        os.ftruncate(self._descriptor, size - len(tail))
        return size - len(tail)

    def _is_full(self, more_bytes: int, now_ms: int) -> bool:
        too_large = 0 < self._config.max_file_size < self._size + more_bytes
        return too_large or self._period != self._period_of(now_ms / 1000)

    def _rotate(self) -> None:
        if self._config.fsync != "never":
            self.sync()
        self._archive.take(self.path)
        self.close()
        self._open()

    def _period_of(self, time_s: float) -> str:
        if self._config.rotate == "none":
            return ""
        return datetime.fromtimestamp(time_s, self._archive.zone).strftime(_PERIODS[self._config.rotate])


_PERIODS = {"hour": "%Y%m%d%H", "day": "%Y%m%d"}


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _last_line(descriptor: int, size: int) -> bytes:
    """Return the bytes after the last line end of a file."""
    tail = b""
    while size > 0 and b"\n" not in tail:
        start = max(0, size - _TAIL_BLOCK_BYTES)
        tail = os.pread(descriptor, size - start, start) + tail
        size = start
    return tail.rpartition(b"\n")[2]


def _is_json(text: bytes) -> bool:
    try:
        return isinstance(jsontext.decode(text), dict)
    except ValueError:
        return False
