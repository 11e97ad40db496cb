"""What the conformance suite must know of a kind's target: how to reach it, read it, break it and mend it.

``tests/support/sinks/<kind>.py`` defines ``open_harness(request, folder)``, which returns a `Harness`; `request` gives
it the fixtures of real servers. What is checked is in ``tests/conformance/test_connector.py`` and the same for all.
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
"""What the fixture `new_sink` of the unit tests is: makes a sink of a kind and its options."""

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
    """What a sink may raise while the target is away."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def context(self) -> SinkContext:
        """What the sink is given besides its options."""
        return SinkContext(SINK_ID, self.folder, self.folder / "data")

    async def start(self) -> None:
        """Have the target ready and empty."""
        return

    async def stop(self) -> None:
        """Take it down, in whatever state the test left it."""
        return

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """The options of a sink that stores the columns of `sample_row` there."""

    @abstractmethod
    async def rows(self) -> list[Row]:
        """What the target holds, in the order it came."""

    def stored(self, row: Row) -> Row:
        """How `row` reads when it comes back from the target: its kinds of values, for those JSON has no others."""
        return row

    def spoiled(self, row: Row) -> Row:
        """`row`, made one that the target can never take."""
        raise NotImplementedError

    takes_everything = False
    """There is no row that this target could refuse, so `spoiled` is not defined."""

    @abstractmethod
    async def break_off(self) -> None:
        """Make the target unreachable or unable to take anything: an outage."""

    @abstractmethod
    async def mend(self) -> None:
        """End the outage."""

    @abstractmethod
    async def misconfigure(self) -> None:
        """Change something at the target so that the options no longer fit it: missing table, wrong rights."""

    @abstractmethod
    async def put_right(self) -> None:
        """Undo `misconfigure`."""
