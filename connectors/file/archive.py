"""Rotated files: their names, their number, and their compression in a thread of its own.

A rotated file is renamed to ``<stem>-<time of its last row>-<number><suffix>`` in the same folder. Names sort by age
and never change, except for the ``.gz`` of a compressed one. The files to compress are read from the folder: a
compression that the end of the process interrupted is done at the next rotation.
"""

from __future__ import annotations

import gzip
import os
import re
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path

import structlog

from connectors._shared.disk import sync_folder

log = structlog.get_logger()

_BLOCK_BYTES = 1 << 20
"""Bytes compressed between two looks at whether the sink is closing."""
_LEVEL = 6
"""gzip's own default: level 9 takes three times as long for a percent or two."""


class Archive:
    """Renames full files, and keeps the newest `max_files` of each; 0 keeps all."""

    def __init__(self, max_files: int, zone: tzinfo, *, is_compressed: bool) -> None:
        self.zone = zone
        self._max_files = max_files
        self._stopping = threading.Event()
        self._compressor = ThreadPoolExecutor(1, "compress-rotated") if is_compressed else None

    def take(self, path: Path) -> None:
        """Rename the file at `path` to that of a rotated one, and delete the oldest ones. Raise `OSError`."""
        path.rename(self._name_for(path))
        sync_folder(path.parent)
        self._prune(path)
        if self._compressor is not None:
            self._compressor.submit(self._compress_all, path)

    def close(self) -> None:
        """Stop compressing; an unfinished file is compressed at the next rotation."""
        self._stopping.set()
        if self._compressor is not None:
            self._compressor.shutdown(wait=True, cancel_futures=True)

    def rotated(self, path: Path) -> list[Path]:
        """Return the rotated files of `path`, oldest first."""
        pattern = re.compile(rf"{re.escape(path.stem)}-\d{{8}}T\d{{6}}-\d{{4,}}{re.escape(path.suffix)}(\.gz)?")
        return sorted(each for each in path.parent.iterdir() if pattern.fullmatch(each.name))

    def _name_for(self, path: Path) -> Path:
        """Return a name after those of the same second, of which the oldest may be deleted already."""
        time = datetime.fromtimestamp(path.stat().st_mtime, self.zone).strftime("%Y%m%dT%H%M%S")
        start = len(path.stem) + len(time) + 2
        numbers = [
            int(name[start:].partition(".")[0])
            for name in (each.name for each in self.rotated(path))
            if name.startswith(f"{path.stem}-{time}-")
        ]
        return path.with_name(f"{path.stem}-{time}-{max(numbers, default=0) + 1:04}{path.suffix}")

    def _prune(self, path: Path) -> None:
        if self._max_files == 0:
            return
        for old in self.rotated(path)[: -self._max_files]:
            with suppress(FileNotFoundError):
                old.unlink()

    def _compress_all(self, path: Path) -> None:
        for each in self.rotated(path):
            if each.suffix == ".gz" or self._stopping.is_set():
                continue
            try:
                self._compress(each)
            except OSError as error:
                log.warning("compression of a rotated file failed; file kept", path=str(each), error=str(error))

    def _compress(self, path: Path) -> None:
        unfinished = path.with_name(f"{path.name}.gz.part")
        try:
            with path.open("rb") as source, unfinished.open("wb") as target:
                with gzip.GzipFile(path.name, "wb", _LEVEL, target) as packed:
                    for block in self._blocks(source.fileno()):
                        packed.write(block)
                target.flush()
                os.fsync(target.fileno())
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        if self._stopping.is_set() or not path.exists():
            unfinished.unlink()
            return
        unfinished.replace(_compressed(path))
        path.unlink(missing_ok=True)
        sync_folder(path.parent)

    def _blocks(self, descriptor: int) -> Iterator[bytes]:
        while not self._stopping.is_set():
            block = os.read(descriptor, _BLOCK_BYTES)
            if not block:
                return
            yield block


def _compressed(path: Path) -> Path:
    return path.with_name(f"{path.name}.gz")
