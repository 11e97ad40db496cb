"""The console sink: its lines, and its isolation from readers that stop reading."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from connectors.console import ConsoleConfig
from engine.connector import Failures
from engine.errors import HoldError, RetryableError
from support.sinks.harness import NewSink, batch_of, write


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    yield read_end, write_end
    os.close(write_end)
    os.close(read_end)


async def test_line_has_the_name_of_its_rule(new_sink: NewSink, capfd: pytest.CaptureFixture[str]) -> None:
    """Several rules can print to one console."""
    sink = await new_sink("console")
    await write(sink, batch_of([{"temp": 31.5, "text": "grün\n"}]))
    assert capfd.readouterr().out == '{"rule":"hot","row":{"temp":31.5,"text":"grün\\n"}}\n'


async def test_slow_reader_gets_every_line_once_and_complete(
    new_sink: NewSink, pipe: tuple[int, int], clock: Any
) -> None:
    """Lines that fitted into the pipe are delivered, the others retried; a partly printed line is completed first."""
    read_end, write_end = pipe
    clock.step_s = 1.0
    sink = await new_sink("console", stream=write_end, request_timeout="1ms")
    rows = [{"n": n, "text": "x" * 333} for n in range(1000)]
    text = b""
    batch = batch_of(rows)
    for _ in range(100):
        try:
            failures = await write(sink, batch)
        except RetryableError as error:
            failures = Failures.of(range(len(batch)), error)
        while True:
            try:
                text += os.read(read_end, 1 << 20)
            except BlockingIOError:
                break
        if not failures:
            break
        batch = batch.pick(sorted(failures))
    assert [json.loads(line)["row"] for line in text.splitlines()] == rows


async def test_closed_reading_end_holds(new_sink: NewSink, pipe: tuple[int, int]) -> None:
    """The reader of `headgate run | head` ends; rows wait, and the reason is reported."""
    read_end, write_end = os.pipe()
    sink = await new_sink("console", stream=write_end)
    os.close(read_end)
    with pytest.raises(HoldError):
        await write(sink, batch_of([{"n": 1}]))
    with pytest.raises(HoldError, match="nobody reads"):
        await sink.connect()
    os.close(write_end)


def test_default_buffer_is_small_and_drops_the_oldest() -> None:
    """Rows that a console could not print must not make the broker refuse messages."""
    assert ConsoleConfig(type="console").buffer.when_full == "drop_oldest"
