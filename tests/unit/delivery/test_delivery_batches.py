"""When a batch is sent, and what is in it."""

from __future__ import annotations

import asyncio
from typing import Any
from zlib import crc32

import pytest

from engine.testing import FlakySink, MemorySink, pump
from support.deliveries import World, chunk, options


async def test_a_batch_fills_for_no_longer_than_its_time(world: World) -> None:
    """Small batches cost the sink; long waits cost the reader of the data."""
    sink = MemorySink()
    outbox = await world.open(sink, options(batch={"time": "20ms"}))
    await world.put(outbox, chunk(1))
    await world.clock.advance(0.01)
    await world.put(outbox, chunk(2))
    assert sink.batches == []
    await world.clock.advance(0.0101)
    assert [batch.rows for batch in sink.batches] == [[{"n": 1}, {"n": 2}]]


async def test_a_full_batch_does_not_wait(world: World) -> None:
    """Under load nothing waits for a timer."""
    sink = MemorySink()
    outbox = await world.open(sink, options(batch={"time": "1h", "size": 3}))
    await world.put(outbox, chunk(1, 2), chunk(3, 4), chunk(5, 6, 7))
    assert [len(batch) for batch in sink.batches] == [3, 3]
    assert outbox.status().buffered == 1


async def test_a_batch_is_bounded_by_bytes_and_a_larger_record_goes_alone(world: World) -> None:
    """A request must stay below what the server takes."""
    sink = MemorySink()
    outbox = await world.open(sink, options(batch={"bytes": 1000}))
    await world.put(outbox, *(chunk({"n": n, "text": "x" * size}) for n, size in enumerate([400, 400, 400, 5000, 10])))
    assert [[row["n"] for row in batch.rows] for batch in sink.batches] == [[0, 1], [2], [3], [4]]


async def test_rows_and_records_of_a_batch_agree_across_chunks(world: World) -> None:
    """A sink reports by index, so that index must mean the same in both."""
    sink = MemorySink()
    outbox = await world.open(sink, options(batch={"size": 4}))
    await world.put(outbox, chunk(1, 2, 3, client="a", rule="x"), chunk(4, 5, 6, client="b", rule="y"))
    batch = sink.batches[0]
    assert [record.row for record in batch.records] == batch.rows
    assert [(record.rule_id, record.client_id) for record in batch.records] == [("x", "a")] * 3 + [("y", "b")]
    assert [record.id for record in sink.records] == [f"s-0-{n}" for n in range(1, 7)]


async def test_records_of_a_client_take_one_lane_and_lanes_run_beside_each_other(world: World) -> None:
    """Order is per client; a slow batch of one lane does not hold up another."""
    release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sink = FlakySink(writes=[lambda _: release])
    outbox = await world.open(sink, options(lanes=4))
    await world.put(outbox, chunk(1, client="slow", lane=1), chunk(2, client="quick", lane=2))
    await world.put(outbox, chunk(3, client="slow", lane=1), chunk(4, client="quick", lane=2))
    assert [row["n"] for row in sink.rows] == [2, 4]
    release.set_result(None)
    await pump()
    assert [row["n"] for row in sink.rows] == [2, 4, 1, 3]


async def test_a_lane_key_decides_the_lane_row_by_row(world: World) -> None:
    """Records of a machine stay in order, whichever gateway sends them."""
    sink = MemorySink()
    outbox = await world.open(sink, options(lanes=4, lane_key="${machine}"))
    rows = [{"n": n, "machine": f"m{n % 3}"} for n in range(30)]
    await world.put(outbox, *(chunk(*rows[i : i + 5], client=f"gateway {i % 2}") for i in range(0, 30, 5)))
    assert sorted(row["n"] for row in sink.rows) == list(range(30))
    for machine in ("m0", "m1", "m2"):
        mine = [record for record in sink.records if record.row["machine"] == machine]
        assert [record.row["n"] for record in mine] == sorted(record.row["n"] for record in mine)
        assert {record.lane for record in mine} == {crc32(machine.encode()) % 4}


async def test_a_row_that_cannot_be_stored_becomes_a_dead_letter(world: World) -> None:
    """Nothing is silent, and one such row does not take the others of its read with it."""
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1, {"n": object()}, 3), chunk({"n": "\udc80"}))
    assert [row["n"] for row in sink.rows] == [1, 3]
    first, second = await world.delivery.dead_letters("s")
    assert "object" in first.row["_unstorable"]
    assert "udc80" in second.row["_unstorable"]
    assert outbox.counters.emitted == 4
    assert outbox.counters.buffered == 0


@pytest.mark.parametrize("depth", [600, 5000])
async def test_a_row_nested_beyond_the_stack_does_not_affect_other_rows(world: World, depth: int) -> None:
    """Any device can send one. If it broke the read it came in, rows of other rules would never be put.

    Python 3.11 can't encode 600 levels; later versions can, and the row is delivered there.
    """
    nested: Any = 1 << 70
    for _ in range(depth):
        nested = [nested]
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1, {"n": nested}, 3))
    assert [row["n"] for row in sink.rows if isinstance(row["n"], int)] == [1, 3]
    letters = await world.delivery.dead_letters("s")
    assert len(sink.rows) + len(letters) == 3
    assert letters or depth == 600
    assert all(letter.message.startswith("a row can't be stored") for letter in letters)
    assert outbox.counters.buffered == 0
