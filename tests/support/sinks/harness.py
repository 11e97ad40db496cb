"""The interface between the conformance suite and a kind's target: reach it, read it, break it and repair it.

``tests/support/sinks/<kind>.py`` defines ``open_harness(request, folder)``, which returns a `Harness`; `request` gives
it the fixtures of real servers. The checks, the same for all, are in ``tests/conformance/test_connector.py``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from engine.connector import ANSWER_SHARE, Deadline, Failures, Sink, SinkContext
from engine.errors import DeliveryError, NotConnectedError, RetryableError
from engine.model.record import Batch, Record, Row

NewSink = Callable[..., Awaitable[Any]]
"""The type of the fixture `new_sink` of the unit tests, which makes a sink of a kind and its options."""

SINK_ID = "readings"
RULE_ID = "hot"


def sample_row(client: str, n: int) -> Row:
    """A row with a value of every kind that JSON has. A target with a schema has these columns."""
    return {
        "client": client,
        "n": n,
        "label": f"grüße „{n}“ 'x' \"y\" \\ ${{n}} 🌡\nnext; DROP TABLE readings",
        "ratio": n + 0.5,
        "large": 2**53 + n,
        "ok": n % 2 == 0,
        "nothing": None,
        "place": {"room": "a", "path": [1, 2.5, None, {"deep": True}]},
    }


def batch_of(rows: list[Row], *, lane: int = 0, first_seq: int = 1, client: str = "c0") -> Batch:
    """A batch as the engine would hand it to a sink."""
    seqs = range(first_seq, first_seq + len(rows))
    records = [
        Record(SINK_ID, lane, seq, row, RULE_ID, client, f"sensors/{client}", 1_700_000_000_000 + seq)
        for seq, row in zip(seqs, rows, strict=True)
    ]
    return Batch(SINK_ID, lane, seqs, rows, records)


async def write(sink: Sink, batch: Batch) -> Failures:
    """One call of `sink.write` with the deadline that a lane would set."""
    return await sink.write(batch, Deadline(sink.context.clock, ANSWER_SHARE * sink.config.request_timeout))


class Harness(ABC):
    """One target of one kind, for one test."""

    outage: tuple[type[DeliveryError], ...] = (NotConnectedError, RetryableError)
    """Errors that a sink may raise while the target is away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def context(self) -> SinkContext:
        """Return the sink's context."""
        return SinkContext(SINK_ID, self.folder, self.folder / "data")

    async def start(self) -> None:
        """Start the target, empty."""
        return

    async def stop(self) -> None:
        """Stop the target, in any state that the test left it in."""
        return

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return the options of a sink that stores the columns of `sample_row` in the target."""

    @abstractmethod
    async def rows(self) -> list[Row]:
        """Return the rows in the target, in the order they arrived."""

    def stored(self, row: Row) -> Row:
        """Return `row` as it is read back from the target, with the target's types of values."""
        return row

    def spoiled(self, row: Row) -> Row:
        """Return `row` changed so that the target never accepts it."""
        raise NotImplementedError

    takes_everything = False
    """The target accepts every row, so `spoiled` is not defined."""

    @abstractmethod
    async def break_off(self) -> None:
        """Begin an outage: the target is unreachable, or accepts nothing."""

    @abstractmethod
    async def mend(self) -> None:
        """End the outage."""

    @abstractmethod
    async def misconfigure(self) -> None:
        """Change the target so that the sink's options no longer fit it: a missing table, missing rights."""

    @abstractmethod
    async def put_right(self) -> None:
        """Undo `misconfigure`."""
