"""Appends rows to files, one JSON object a line, and rotates them by size or time.

One thread owns all files. Batches that wait at the same time share one write and, with ``fsync: always``, one fsync.
A record is delivered once its line is written, with ``fsync: always`` once it is on disk. A write that fails half-way
is cut off again, so that no torn line stands between whole ones. A torn last line that a crash left is cut off when the
file is opened: its record is delivered again.

The current file has the name of `path`. A rotated one keeps its name for good: ``readings.jsonl`` becomes
``readings-20260131T140000-0001.jsonl``, by the time of its last row and a number; compressed ones end in ``.gz``.
"""

from __future__ import annotations

from typing import ClassVar

from connectors._shared.encoding import RowEncoder
from connectors._shared.routing import Routing
from connectors._shared.thread import WriterThread
from connectors.file.options import FileConfig
from connectors.file.writer import FileWriter
from engine.connector import ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import NotConnectedError
from engine.language.template import Template
from engine.model.record import Batch


class FileSink(Sink):
    """Rows as lines of files, written by a thread that owns the files."""

    kind: ClassVar[str] = "file"
    Config: ClassVar[type[ConnectorConfig]] = FileConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: file\npath: data/readings.jsonl\n",
        'type: file\npath: "data/by-device/${device}.jsonl"\nrotate: day\ntimezone: Europe/Berlin\nmax_files: 31\n',
        'type: file\npath: data/alarms.log\nformat: template\ntemplate: "${at} ${device}: ${temp}"\nfsync: always\n',
    )

    def __init__(self, config: FileConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        config.check()
        self._routing = Routing(Template.compile(config.path, kind="path", allow_unconfined=config.allow_unconfined))
        line = None if config.template is None else Template.compile(config.template, kind="text")
        self._encoder = RowEncoder(line)
        self._writer: FileWriter | None = None
        self._thread: WriterThread[Batch, Failures] | None = None

    async def connect(self) -> None:
        await self.close()
        writer = FileWriter(self.config, self.context, self._routing, self._encoder)
        thread = WriterThread(f"file-{self.context.sink_id}", writer.write, writer.sync_due)
        self._writer, self._thread = writer, thread
        await thread.call(writer.open)

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._thread is None:
            raise NotConnectedError("the file is not open")
        failures = await self._thread.submit(batch)
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        thread, writer = self._thread, self._writer
        self._thread = self._writer = None
        if thread is not None and writer is not None:
            await thread.stop(writer.close)
