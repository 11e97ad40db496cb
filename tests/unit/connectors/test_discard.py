"""The discard sink."""

from __future__ import annotations

from pathlib import Path

import pytest

from connectors.discard import DiscardConfig, DiscardSink
from engine.connector import SinkContext
from engine.errors import NotConnectedError
from support.sinks.harness import batch_of, sample_row, write


async def test_every_row_is_accepted_while_open(tmp_path: Path) -> None:
    """It replaces other sinks in tests, so it must be opened and closed like them."""
    sink = DiscardSink(DiscardConfig(type="discard"), SinkContext("readings", tmp_path, tmp_path))
    batch = batch_of([sample_row("c0", number) for number in range(10)])
    with pytest.raises(NotConnectedError):
        await write(sink, batch)
    await sink.connect()
    assert not await write(sink, batch)
    await sink.close()
    await sink.close()
    with pytest.raises(NotConnectedError):
        await write(sink, batch)
