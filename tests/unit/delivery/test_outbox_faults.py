"""`Outbox.put` when anything beneath it fails: it never raises, and takes a chunk as a whole or not at all."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from structlog.testing import capture_logs

from engine.connector import ConnectorConfig
from engine.delivery import Outbox
from engine.delivery.notice import NOTICE_EVERY_S
from engine.errors import NotConnectedError
from engine.model.record import Chunk
from engine.testing import FlakySink, MemorySink, pump
from support.deliveries import World, chunk, options
from support.faults import call_with_fault

HUGE = 10**5000
"""Python refuses to make text of it."""

UNSTORABLE = object()


@dataclass(frozen=True, slots=True)
class Case:
    """A kind of chunk and a state of the outbox. ``rows`` makes the rows of a chunk of their numbers."""

    rows: Callable[[list[int]], list[dict[str, Any]]]
    size: int = 1
    options: dict[str, Any] = field(default_factory=dict)
    is_first: bool = True
    """Whether the open group is empty before."""

    def config(self) -> ConnectorConfig:
        return options(**self.options)


def plain(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"n": n, "key": n % 3} for n in numbers]


def unstorable(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"n": n, "key": n, "bad": [HUGE, UNSTORABLE]} for n in numbers]


def one_unstorable(numbers: list[int]) -> list[dict[str, Any]]:
    return [{"n": n, "key": n, "bad": UNSTORABLE if index == 1 else None} for index, n in enumerate(numbers)]


BY_KEY = {"lanes": 4, "lane_key": "${key}"}
CASES = {
    "plain": Case(plain, size=2),
    "plain, not the first": Case(plain, size=2, is_first=False),
    "spread by key": Case(plain, size=5, options=BY_KEY),
    "spread by key, not the first": Case(plain, size=5, options=BY_KEY, is_first=False),
    "full": Case(plain, size=2, options={"buffer": {"max_bytes": 500}}),
    "full of records": Case(plain, size=2, options={"buffer": {"max_events": 5}}),
    "drop_oldest": Case(plain, size=2, options={"buffer": {"max_events": 5, "when_full": "drop_oldest"}}),
    "drop_oldest from disk": Case(
        plain, size=2, options={"buffer": {"max_events": 9, "when_full": "drop_oldest", "memory_bytes": 300}}
    ),
    "drop_newest": Case(plain, size=2, options={"buffer": {"max_events": 5, "when_full": "drop_newest"}}),
    "unstorable": Case(unstorable),
    "one of several is unstorable": Case(one_unstorable, size=3, options=BY_KEY),
}


class Book:
    """Which rows were taken, and whether the outbox agrees."""

    def __init__(self, world: World, outbox: Outbox, case: Case) -> None:
        self.world = world
        self.outbox = outbox
        self.case = case
        self.taken: list[int] = []
        self.next = 0

    def chunk(self) -> Chunk:
        numbers = list(range(self.next, self.next + self.case.size))
        self.next += self.case.size
        return chunk(*self.case.rows(numbers))

    def note(self, item: Chunk, is_taken: bool) -> None:
        if is_taken:
            self.taken += [row["n"] for row in item.rows]

    def state(self) -> Any:
        """Everything that a put may change."""
        log, group = self.world.journal.sink("s"), self.world.journal.group
        lanes = [(lane.key, list(lane.fresh), lane.fresh_rows, lane.fresh_bytes) for lane in log.lanes.values()]
        return str(log.state), lanes, list(group.lanes), list(group.letters), list(group.deleted_letters)

    def check(self) -> None:
        """The counters agree with the lanes, and each lane that has chunks stands in the group once."""
        log, group = self.world.journal.sink("s"), self.world.journal.group
        counters = self.outbox.counters
        assert counters.emitted == len(self.taken)
        # Dropped records stay before the cursor for as long as a batch before them is in flight.
        dropped = [
            lane.dropped_through - lane.log.state.cursor - lane.in_flight for lane in self.outbox._lanes.values()
        ]
        waiting = sum(lane.waiting for lane in log.lanes.values()) - sum(max(number, 0) for number in dropped)
        assert counters.buffered == waiting
        for lane in log.lanes.values():
            assert lane.fresh_rows == sum(len(item.rows) for item in lane.fresh)
            assert lane.fresh_bytes == sum(len(item.encode()) for item in lane.fresh)
            assert group.lanes.count(lane) == bool(lane.fresh)
        assert (log.state.waiting_bytes > 0) == (counters.buffered > 0)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
async def test_put_takes_all_or_nothing_whichever_call_beneath_it_fails(world: World, case: Case) -> None:
    """Each call that a put makes fails once, at every depth. The next put works and is committed."""
    outbox = await world.open(FlakySink(connects=[NotConnectedError("away")] * 10_000), case.config())
    book = Book(world, outbox, case)
    at = 0
    failed: str | None = ""
    with capture_logs():
        while failed is not None:
            if not case.is_first:
                before = book.chunk()
                book.note(before, outbox.put(before))
            state, item, at = book.state(), book.chunk(), at + 1
            outcome = call_with_fault(outbox.put, item, at=at)
            failed = outcome.failed
            book.note(item, outcome.result)
            assert outcome.result or book.state() == state, f"{failed} has left something behind"
            book.check()
            item = book.chunk()
            book.note(item, outbox.put(item))
            book.check()
            hold = await _committed(world)
            assert not hold.failed, f"nothing is written after {failed}"
            book.check()
    assert at > 3, "hardly any call was found"
    await _check_delivery(world, outbox, book)


async def _committed(world: World) -> Any:
    hold = world.delivery.hold()
    await pump(5)
    if not hold.done:
        await world.clock.advance(0.06)
    assert hold.done
    return hold


async def _check_delivery(world: World, outbox: Outbox, book: Book) -> None:
    """Everything that was taken was delivered once, is a dead letter, or was dropped by the policy of the buffer."""
    sink = MemorySink()
    await world.delivery.replace("s", sink, options())
    await world.advance_until(lambda: not outbox.counters.buffered)
    letters = await world.delivery.dead_letters("s", limit=10_000)
    counters = outbox.counters
    delivered = [row["n"] for row in sink.rows]
    assert len(delivered) == len(set(delivered))
    assert set(delivered) <= set(book.taken)
    assert len(delivered) + len(letters) + counters.dropped == len(book.taken)
    assert counters.dropped == counters.dropped_newest + counters.dropped_oldest
    assert outbox.status().buffered_bytes == 0


async def test_drop_counts_and_never_raises_whichever_call_beneath_it_fails(world: World) -> None:
    """It is called for publishes without acknowledgement."""
    outbox = await world.open(MemorySink())
    at = 0
    failed: str | None = ""
    with capture_logs():
        while failed is not None:
            at += 1
            failed = call_with_fault(outbox.drop, 2, at=at).failed
            assert (outbox.counters.emitted, outbox.counters.dropped_queue_full) == (2 * at, 2 * at)
            await world.journal.flush()
    assert at > 1


async def test_put_answers_false_and_logs_once_when_the_journal_takes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A failure that lasts is said, but not for each message."""
    outbox = await world.open(MemorySink())
    before = str(world.journal.sink("s").state)

    def broken(lane: Any) -> None:
        raise MemoryError

    with monkeypatch.context() as patch, capture_logs() as logs:
        patch.setattr(world.journal.sink("s").lane(0), "_enter", broken)
        for n in range(50):
            assert not outbox.put(chunk(n))
        await world.clock.advance(NOTICE_EVERY_S)
        assert not outbox.put(chunk(50))
    assert str(world.journal.sink("s").state) == before
    assert [(entry["log_level"], entry["count"], entry["reason"]) for entry in logs] == [
        ("error", 1, "MemoryError"),
        ("error", 50, "MemoryError"),
    ]
    assert outbox.put(chunk(51))
    await world.journal.flush()
    await pump()
    assert outbox.counters.delivered == 1


async def test_rows_that_cannot_be_stored_are_logged_together(world: World) -> None:
    """One device may send thousands of them a second."""
    outbox = await world.open(MemorySink())
    with capture_logs() as logs:
        for n in range(20):
            assert outbox.put(chunk({"n": n, "bad": UNSTORABLE}))
        await world.clock.advance(NOTICE_EVERY_S)
        assert outbox.put(chunk({"n": 20, "bad": UNSTORABLE}))
    assert [(entry["sink"], entry["count"]) for entry in logs] == [("s", 1), ("s", 20)]
    assert logs[0]["reason"].startswith("a row can't be stored")


class Hostile:
    """An object that no text can be made of."""

    def __repr__(self) -> str:
        raise SystemError("no")


def nested(depth: int) -> Any:
    value: Any = UNSTORABLE
    for _ in range(depth):
        value = {"deeper": [value]}
    return value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ([HUGE, UNSTORABLE], "[<integer of 16610 bits>, <object>]"),
        (Hostile(), "<Hostile>"),
        (nested(5000), "…"),
        ({"text": "x" * 10_000_000, "bad": UNSTORABLE}, "xxx"),
        ([[HUGE, UNSTORABLE] * 1000] * 1000, "<integer of 16610 bits>"),
        ({1: {(2, 3): UNSTORABLE}}, "{1: {(2, 3): <object>}}"),
        ("\ud800", "'\\ud800'"),
    ],
    ids=["huge integer", "object", "deep", "long", "wide", "keys", "surrogate"],
)
async def test_a_row_that_cannot_be_stored_is_shown_in_bounded_text(world: World, value: Any, shown: str) -> None:
    """For any content. The text must not exceed the limit of a row."""
    outbox = await world.open(MemorySink())
    assert outbox.put(chunk({"n": value}))
    (letter,) = await world.delivery.dead_letters("s")
    text = letter.row["_unstorable"]
    assert shown in text
    assert len(text) <= 10_000
    assert len(letter.message) <= 1000
    assert outbox.counters.dead_lettered == 1
