"""Prints each row as a JSON line with the name of its rule, to try rules out and for pipes.

A thread prints as much as the reader accepts. If it reads nothing within `request_timeout`, rows are buffered as for
any slow sink. The default buffer is small and drops the oldest rows: an unread console must not stop devices.
"""

from __future__ import annotations

import errno
import os
import select
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from connectors._shared.isolation import VALUE_ERRORS, isolate
from connectors._shared.thread import WriterThread
from engine.connector import ALL_STORED, BufferConfig, ConnectorConfig, Deadline, Failures, Sink, SinkContext
from engine.errors import HoldError, NotConnectedError, RetryableError
from engine.model import jsontext
from engine.model.record import Batch

PIECE_BYTES = 4096
"""Bytes that a writable pipe accepts without blocking: PIPE_BUF on Linux (pipe(7))."""

_DESCRIPTORS = {"stdout": 1, "stderr": 2}
_POLL_MS = 100
"""Longest wait for a reader between two looks at the deadline, and at whether the sink is closing."""


class ConsoleConfig(ConnectorConfig):
    """Options of the `console` sink."""

    stream: Literal["stdout", "stderr"] | Annotated[int, Field(ge=3)] = "stdout"
    """Stream that rows are printed to, or the number of an inherited descriptor: `headgate run 3> rows.jsonl`."""
    buffer: BufferConfig = BufferConfig(max_bytes=16 << 20, when_full="drop_oldest")
    """Rows that wait for a console nobody reads: a small buffer that drops the oldest."""


class ConsoleSink(Sink):
    """Rows on standard output or standard error."""

    kind: ClassVar[str] = "console"
    Config: ClassVar[type[ConnectorConfig]] = ConsoleConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        "type: console\n",
        "type: console\nstream: stderr\n",
        "type: console\nstream: 3\n",
    )

    def __init__(self, config: ConsoleConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._printer: _Printer | None = None
        self._thread: WriterThread[tuple[Batch, Deadline], Failures] | None = None

    async def connect(self) -> None:
        await self.close()
        stream = self.config.stream
        printer = _Printer(_DESCRIPTORS.get(stream, stream), str(stream))
        thread = WriterThread(f"console-{self.context.sink_id}", printer.write)
        self._printer, self._thread = printer, thread
        await thread.call(printer.check)

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._thread is None:
            raise NotConnectedError("the console is closed")
        failures = await self._thread.submit((batch, deadline))
        return failures.or_raise(len(batch))

    async def close(self) -> None:
        thread, printer = self._thread, self._printer
        self._thread = self._printer = None
        if thread is not None and printer is not None:
            printer.is_stopped = True
            await thread.stop(lambda: None)


class _Printer:
    """Writes lines to a descriptor without blocking on it. Lives in the sink's thread."""

    def __init__(self, descriptor: int, name: str) -> None:
        self._descriptor = descriptor
        self._name = name
        self._rest = b""
        """Unprinted rest of a partly printed line, whose record counts as delivered."""
        self.is_stopped = False
        self._poll = select.poll()
        self._poll.register(descriptor, select.POLLOUT)

    def check(self) -> None:
        """Raise `HoldError` if the reading end is closed."""
        if any(event & (select.POLLERR | select.POLLHUP | select.POLLNVAL) for _, event in self._poll.poll(0)):
            raise HoldError(f"nobody reads {self._name} any more", code="EPIPE")

    def write(self, batches: Sequence[tuple[Batch, Deadline]]) -> list[Failures | Exception]:
        """Print all `batches` as far as the reader takes them by their deadlines; the rest fails, to be retried."""
        return [self._write_batch(batch, deadline) for batch, deadline in batches]

    def _write_batch(self, batch: Batch, deadline: Deadline) -> Failures | Exception:
        lines, failures = _lines(batch)
        try:
            written = self._print(b"".join(lines.values()), deadline)
        except OSError as error:
            return HoldError(
                f"{self._name} can't be written: {error.strerror}", code=errno.errorcode.get(error.errno or 0)
            )
        unread: list[int] = []
        start = 0
        for index, line in lines.items():
            if start >= written:
                unread.append(index)
            elif start + len(line) > written:
                self._rest = line[written - start :]
            start += len(line)
        return failures | Failures.of(unread, RetryableError(f"nobody reads {self._name}"))

    def _print(self, data: bytes, deadline: Deadline) -> int:
        """Print the rest of an earlier line, then `data`. Return how much of `data` was accepted by `deadline`."""
        left = memoryview(self._rest + data)
        while left and self._is_ready(deadline):
            with suppress(BlockingIOError):
                left = left[os.write(self._descriptor, left[:PIECE_BYTES]) :]
        unwritten_rest = max(0, len(left) - len(data))
        self._rest = self._rest[len(self._rest) - unwritten_rest :]
        return len(data) - len(left) + unwritten_rest

    def _is_ready(self, deadline: Deadline) -> bool:
        while not self._poll.poll(_POLL_MS):
            if self.is_stopped or deadline.is_over():
                return False
        return True


def _lines(batch: Batch) -> tuple[dict[int, bytes], Failures]:
    """Return the line of each record by its index, and the records that have no JSON form."""
    printed = [{"rule": record.rule_id, "row": record.row} for record in batch.records]
    with suppress(*VALUE_ERRORS):
        return dict(enumerate(jsontext.encode_lines(printed).splitlines(keepends=True))), ALL_STORED
    encoded = isolate(lambda each: jsontext.encode_lines([each]), enumerate(printed))
    return dict(zip(encoded.indices, encoded.results, strict=True)), encoded.failures
