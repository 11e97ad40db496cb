"""Appends rows to files, one JSON object a line, and rotates them by size or time.

All files belong to one thread. Batches that wait at the same time are written with one call and, where it is asked
for, made safe with one fsync. A record is delivered once its line is written, with ``fsync: always`` once it is on
the disk. A write that fails half-way is taken back, so that no half line stands between whole ones; what a crash left
of a last line is cut off when the file is opened, as its record comes again.

The current file has the name of `path`. A rotated one keeps its name for good: ``readings.jsonl`` becomes
``readings-20260131T140000-0001.jsonl``, by the time of its last row and a number; compressed ones end in ``.gz``.
"""

from __future__ import annotations

import os
import re
import stat
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Annotated, ClassVar, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import structlog
from pydantic import Field

from connectors._shared.archive import Archive
from connectors._shared.disk import classify, place, prepare_folder, sync_folder
from connectors._shared.encoding import RowEncoder
from connectors._shared.routing import Routing
from connectors._shared.thread import WriterThread
from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import ConfigError, DeliveryError, NotConnectedError, RejectError
from engine.language.template import Template
from engine.language.template.field import templated
from engine.model import jsontext
from engine.model.record import Batch

log = structlog.get_logger()

_TAIL_BLOCK_BYTES = 64 << 10


class FileConfig(ConnectorConfig):
    """Options of the `file` sink."""

    path: Annotated[str, templated("path")]
    """Template of the file, relative to the file that names it; it must begin with text of its own."""
    format: Literal["jsonl", "template"] = "jsonl"
    """`jsonl` writes each row as a JSON object, `template` what `template` says."""
    template: Annotated[str, templated("text")] | None = None
    """Template of a line, without its end; for `format: template`."""
    max_file_size: Size = 100 << 20
    """Size at which a file is rotated; 0 is never."""
    max_files: Annotated[int, Field(ge=0)] = 10
    """Rotated files kept beside the current one, the oldest are deleted; 0 keeps all."""
    rotate: Literal["none", "hour", "day"] = "none"
    """Rotate also when the hour or the day changes, at the next row."""
    timezone: str = "UTC"
    """Time zone of `rotate` and of the names of rotated files."""
    fsync: Literal["always", "interval", "never"] = "interval"
    """`always` before rows count as delivered, `interval` at most `fsync_interval` later, `never` leaves it to the
    system. What was not synced is lost in a power cut, not when the process dies."""
    fsync_interval: Duration = 1.0
    """How long a written row may wait for its fsync."""
    compress_rotated: Literal["none", "gzip"] = "none"
    """Compress rotated files."""
    max_open_files: Annotated[int, Field(ge=1, le=1024)] = 64
    """Files kept open, where `path` has placeholders."""
    allow_unconfined: bool = False
    """Allow a path that is decided by the message alone."""


class FileSink(Sink):
    """Rows as lines of files, through a thread that owns them."""

    kind: ClassVar[str] = "file"
    Config: ClassVar[type[ConnectorConfig]] = FileConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: file\npath: data/readings.jsonl\n",
        'type: file\npath: "data/by-device/${device}.jsonl"\nrotate: day\ntimezone: Europe/Berlin\nmax_files: 31\n',
        'type: file\npath: data/alarms.log\nformat: template\ntemplate: "${at} ${device}: ${temp}"\nfsync: always\n',
    )

    def __init__(self, config: FileConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        if (config.format == "template") != (config.template is not None):
            raise ConfigError(
                "`template` and `format: template` belong together", remedy="write both, or neither for JSON lines"
            )
        self._routing = Routing(Template.compile(config.path, kind="path", allow_unconfined=config.allow_unconfined))
        line = None if config.template is None else Template.compile(config.template, kind="text")
        self._encoder = RowEncoder(line)
        self._zone = _zone(config.timezone)
        self._files: _Files | None = None
        self._thread: WriterThread[Batch, Failures] | None = None

    async def connect(self) -> None:
        await self.close()
        files = _Files(self.config, self.context, self._routing, self._encoder, self._zone)
        thread = WriterThread(f"file-{self.context.sink_id}", files.write, files.sync_due)
        self._files, self._thread = files, thread
        await thread.call(files.open)

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._thread is None:
            raise NotConnectedError("the file is not open")
        failures = await self._thread.submit(batch)
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        thread, files = self._thread, self._files
        self._thread = self._files = None
        if thread is not None and files is not None:
            await thread.stop(files.close)


class _Files:
    """The open files of a sink. Lives in the sink's thread."""

    def __init__(
        self, config: FileConfig, context: SinkContext, routing: Routing, encoder: RowEncoder, zone: tzinfo
    ) -> None:
        self._config = config
        self._context = context
        self._routing = routing
        self._encoder = encoder
        self._static_folder = place(context.base_dir, re.split(r"\$\{|\{[{%]", config.path)[0] + "-").parent
        self._archive = Archive(config.max_files, zone, is_compressed=config.compress_rotated == "gzip")
        self._open: OrderedDict[str, _File] = OrderedDict()
        self._sync_at: float | None = None

    def open(self) -> None:
        """Open the file if there is only one, so that what is wrong with it is known at once."""
        if self._routing.constant is not None:
            self._file(*self._routing.constant)

    def close(self) -> None:
        for path in list(self._open):
            self._forget(path)
        self._archive.close()

    def write(self, batches: Sequence[Batch]) -> list[Failures]:
        """One write, and at most one fsync, for each file that any of `batches` goes to."""
        failures: list[dict[int, DeliveryError]] = [{} for _ in batches]
        parts: dict[str, list[tuple[int, Sequence[int], bytes]]] = {}
        for number, batch in enumerate(batches):
            for (path,), indices in self._routing.groups(batch, failures[number]):
                kept, lines = self._encoder.join(batch, indices, failures[number])
                if kept:
                    parts.setdefault(path, []).append((number, kept, lines))
        for path, of_path in parts.items():
            try:
                self._append(path, b"\n".join([*(lines for _, _, lines in of_path), b""]))
            except DeliveryError as error:
                for number, indices, _ in of_path:
                    failures[number].update(dict.fromkeys(indices, error))
        return [Failures(failed) for failed in failures]

    def sync_due(self) -> float | None:
        """Sync what has waited for `fsync_interval`; how long the next may still wait."""
        if self._sync_at is None:
            return None
        left_s = self._sync_at - self._context.clock.monotonic()
        if left_s > 0:
            return left_s
        self._sync_at = None
        for path, file in list(self._open.items()):
            try:
                file.sync()
            except OSError as error:
                log.error(
                    "a file could not be synced; its last rows may be lost", path=str(file.path), error=str(error)
                )
                self._forget(path)
        return None

    def _append(self, path: str, data: bytes) -> None:
        file = self._file(path)
        try:
            file.append(data, self._context.clock.now_ms())
        except OSError as error:
            self._forget(path)
            raise classify(error, f"{file.path} can't be written") from error
        if self._config.fsync == "interval" and self._sync_at is None:
            self._sync_at = self._context.clock.monotonic() + self._config.fsync_interval

    def _file(self, path: str) -> _File:
        """The open file of `path`; opened anew where somebody removed or replaced it."""
        file = self._open.get(path)
        if file is not None and file.is_in_place():
            self._open.move_to_end(path)
            return file
        self._forget(path)
        if len(self._open) >= self._config.max_open_files:
            self._forget(next(iter(self._open)))
        full_path = place(self._context.base_dir, path)
        try:
            prepare_folder(full_path.parent, place(self._context.base_dir, ""), self._static_folder)
            file = self._open[path] = _File(full_path, self._config, self._archive)
        except OSError as error:
            raise self._blamed(classify(error, f"{full_path} can't be opened")) from error
        except DeliveryError as error:
            raise self._blamed(error) from error
        return file

    def _blamed(self, error: DeliveryError) -> DeliveryError:
        """The same, or a rejection: a value that names a folder as a file, or a file as a folder, is the record's."""
        is_values = self._routing.constant is None and error.code in _WRONG_NAME and self._static_folder.is_dir()
        return RejectError(error.message, code=error.code) if is_values else error

    def _forget(self, path: str) -> None:
        file = self._open.pop(path, None)
        if file is None:
            return
        with suppress(OSError):
            if self._config.fsync != "never":
                file.sync()
        file.close()


class _File:
    """One open file: what is appended to it stands there whole, or not at all."""

    def __init__(self, path: Path, config: FileConfig, archive: Archive) -> None:
        self.path = path
        self._config = config
        self._archive = archive
        self._needs_sync = False
        self._descriptor = -1
        self._open()

    def append(self, data: bytes, now_ms: int) -> None:
        """Write `data` at the end, in a new file if it is time for one. Raises `OSError`; then nothing is written."""
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
        """Make what was appended survive a power cut. Once that has failed, the file is to be opened anew."""
        if self._needs_sync:
            os.fdatasync(self._descriptor)
        self._needs_sync = False

    def close(self) -> None:
        """Give the file back; twice is fine."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def is_in_place(self) -> bool:
        """Whether `path` is still this file. Somebody may have moved it away, or cut it."""
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
            self._size = self._mend(status.st_size) if self._is_regular else 0
        except OSError:
            self.close()
            raise

    def _mend(self, size: int) -> int:
        """Cut off a last line without its end, unless it is a whole JSON value: then only its end is missing."""
        tail = _last_line(self._descriptor, size)
        if not tail:
            return size
        if self._config.format == "jsonl" and _is_json(tail):
            os.write(self._descriptor, b"\n")
            return size + 1
        log.warning("cut off a torn last line", path=str(self.path), bytes=len(tail))
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


_WRONG_NAME = {"EISDIR", "ENOTDIR", "EEXIST"}
_PERIODS = {"hour": "%Y%m%d%H", "day": "%Y%m%d"}


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def _last_line(descriptor: int, size: int) -> bytes:
    """What stands after the last line end of a file."""
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


def _zone(name: str) -> tzinfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ConfigError(f"there is no time zone {name!r}", remedy="write one like UTC or Europe/Berlin") from error
