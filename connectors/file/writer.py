"""The files of a `file` sink: which are open, what is appended to each, and when they are synced."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from contextlib import suppress

import structlog

from connectors._shared.disk import absolute_path, classify, prepare_folder
from connectors._shared.encoding import EncodedRows, RowEncoder
from connectors._shared.isolation import rejection
from connectors._shared.routing import Routing
from connectors.file.appender import Appender
from connectors.file.archive import Archive
from connectors.file.options import FileConfig
from engine.connector import Failures, SinkContext
from engine.errors import DeliveryError, RejectError
from engine.model.record import Batch

log = structlog.get_logger()


_WRONG_NAME = {"EISDIR", "ENOTDIR", "EEXIST"}
"""Errors of a path that names a folder as a file, or a file as a folder."""


class FileWriter:
    """Appends batches to the files that their records name. Lives in the sink's thread."""

    def __init__(self, config: FileConfig, context: SinkContext, routing: Routing, encoder: RowEncoder) -> None:
        self._config = config
        self._context = context
        self._routing = routing
        self._encoder = encoder
        # The folder that all rendered paths lie in: the template up to its first placeholder, cut at a separator.
        static_path = re.split(r"\$\{|\{[{%]", config.path)[0]
        self._static_folder = absolute_path(context.base_dir, static_path + "-").parent
        self._archive = Archive(config.max_files, config.zone(), is_compressed=config.compress_rotated == "gzip")
        self._open: OrderedDict[str, Appender] = OrderedDict()
        """Open files by their rendered path, the least recently used first."""
        self._sync_at: float | None = None

    def open(self) -> None:
        """Open the file if there is only one, so that an error of its path is reported at once."""
        if self._routing.constant is not None:
            self._file(*self._routing.constant)

    def close(self) -> None:
        for path in list(self._open):
            self._close_file(path)
        self._archive.close()

    def write(self, batches: Sequence[Batch]) -> list[Failures]:
        """Write once, and sync at most once, each file that records of `batches` go to."""
        results: list[Failures] = []
        parts: dict[str, list[tuple[int, EncodedRows]]] = {}
        for number, batch in enumerate(batches):
            groups, failures = self._routing.group(batch)
            for (path,), indices in groups:
                encoded = self._encoder.join(batch, indices)
                failures |= encoded.failures
                if encoded.indices:
                    parts.setdefault(path, []).append((number, encoded))
            results.append(failures)
        for path, members in parts.items():
            try:
                self._append(path, b"\n".join([*(encoded.text for _, encoded in members), b""]))
            except DeliveryError as error:
                for number, encoded in members:
                    results[number] |= Failures.of(encoded.indices, error)
        return results

    def sync_due(self) -> float | None:
        """Sync the files if `fsync_interval` has passed. Return the seconds until the next sync, None without one."""
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
                log.error("file sync failed; its last rows may be lost", path=str(file.path), error=str(error))
                self._close_file(path)
        return None

    def _append(self, path: str, data: bytes) -> None:
        file = self._file(path)
        try:
            file.append(data, self._context.clock.now_ms())
        except OSError as error:
            self._close_file(path)
            raise classify(error, f"{file.path} can't be written") from error
        if self._config.fsync == "interval" and self._sync_at is None:
            self._sync_at = self._context.clock.monotonic() + self._config.fsync_interval

    def _file(self, path: str) -> Appender:
        """Return the open file of `path`, opened again if it was moved or replaced."""
        file = self._open.get(path)
        if file is not None and file.is_in_place():
            self._open.move_to_end(path)
            return file
        self._close_file(path)
        if len(self._open) >= self._config.max_open_files:
            self._close_file(next(iter(self._open)))
        full_path = absolute_path(self._context.base_dir, path)
        try:
            prepare_folder(full_path.parent, absolute_path(self._context.base_dir, ""), self._static_folder)
            file = self._open[path] = Appender(full_path, self._config, self._archive)
        except OSError as error:
            raise self._blamed(classify(error, f"{full_path} can't be opened")) from error
        except ValueError as error:  # the name can't be encoded for the file system
            raise rejection(error, "this path can't be opened: ") from error
        except DeliveryError as error:
            raise self._blamed(error) from error
        return file

    def _blamed(self, error: DeliveryError) -> DeliveryError:
        """Return `error`, or a rejection where a value of the record made a path that can't be a file."""
        is_values = self._routing.constant is None and error.code in _WRONG_NAME and self._static_folder.is_dir()
        return RejectError(error.message, code=error.code) if is_values else error

    def _close_file(self, path: str) -> None:
        file = self._open.pop(path, None)
        if file is None:
            return
        with suppress(OSError):
            if self._config.fsync != "never":
                file.sync()
        file.close()
