"""Delivered records are kept for replay, and deleted in small steps."""

from __future__ import annotations

from engine.delivery.journal.sqlite.trimming import BLOCKS_AT_ONCE
from engine.errors import NotConnectedError
from engine.testing import FlakySink, MemorySink
from support.deliveries import World, chunk, options


async def blocks(world: World) -> int:
    await world.journal.flush()
    number: int = await world.journal.store.query(lambda db: db.execute("SELECT count(*) FROM block").fetchone()[0])
    return number


async def test_delivered_records_stay_for_their_time(world: World) -> None:
    """Replay needs them."""
    outbox = await world.open(MemorySink(), options(buffer={"retain": "1h"}))
    for n in range(5):
        await world.put(outbox, chunk(n))
        await world.clock.advance(60.0)
    assert await blocks(world) == 5
    await world.clock.advance(3600.0 - 4.5 * 60)
    assert await blocks(world) == 4
    await world.clock.advance(3600.0)
    assert await blocks(world) == 0


async def test_no_more_than_retain_bytes_are_kept(world: World) -> None:
    """A busy sink must not fill the disk with delivered records; the oldest are deleted first."""
    outbox = await world.open(MemorySink(), options(buffer={"retain_bytes": 5000}))
    for n in range(40):
        await world.put(outbox, chunk({"n": n, "text": "x" * 1000}))
    await world.clock.advance(2.0)
    kept = await world.journal.store.query(lambda db: db.execute("SELECT seq FROM block ORDER BY seq").fetchall())
    assert 3 <= len(kept) <= 5
    assert kept[-1] == (40,)


async def test_blocks_are_deleted_once_delivered_when_nothing_is_retained(world: World) -> None:
    """Some want no history."""
    outbox = await world.open(MemorySink(), options(buffer={"retain": 0}))
    for n in range(3 * BLOCKS_AT_ONCE):
        await world.put(outbox, chunk(n))
    await world.clock.advance(5.0)
    assert await blocks(world) == 0


async def test_waiting_records_are_never_deleted(world: World) -> None:
    """However old they are, and however many."""
    sink = FlakySink(connects=[NotConnectedError("away")] * 100_000)
    outbox = await world.open(sink, options(buffer={"retain": 0, "retain_bytes": 0}, retry={"max": "1h"}))
    for n in range(20):
        await world.put(outbox, chunk(n))
    await world.clock.advance(3 * 86_400 / 60)
    assert await blocks(world) == 20


async def test_nothing_is_deleted_of_a_sink_that_is_not_open(world: World) -> None:
    """The records of a sink that was removed from the configuration may still be wanted."""
    outbox = await world.open(MemorySink(), options(buffer={"retain": 0}))
    await world.put(outbox, chunk(1))
    await world.stop()
    await world.start()
    await world.clock.advance(100.0)
    assert await blocks(world) <= 1
    assert world.journal.sinks["s"].retain_ms is None


async def test_free_pages_are_returned_to_the_file_system(world: World) -> None:
    """After an outage the file shrinks by itself."""
    sink = FlakySink(connects=[NotConnectedError("away")])
    outbox = await world.open(sink, options(buffer={"retain": 0}))
    for n in range(400):
        outbox.put(chunk({"n": n, "text": "x" * 50_000}))
    await world.journal.flush()
    full = await world.journal.store.query(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    assert full > 4000
    await world.advance_until(lambda: not outbox.counters.buffered)
    await world.clock.advance(60.0)
    small = await world.journal.store.query(lambda db: db.execute("PRAGMA page_count").fetchone()[0])
    assert small < full * 0.6


async def test_the_sum_of_retained_bytes_survives_a_restart(world: World) -> None:
    """A sum that drifts would delete too early or too late."""
    config = options(buffer={"retain_bytes": 5000})
    outbox = await world.open(MemorySink(), config)
    for n in range(40):
        await world.put(outbox, chunk({"n": n, "text": "x" * 1000}))
    await world.clock.advance(2.0)
    kept = world.journal.sink("s").kept_bytes
    await world.stop()
    await world.start()
    assert world.journal.sink("s").kept_bytes == kept
    stored = await world.journal.store.query(lambda db: db.execute("SELECT sum(bytes) FROM block").fetchone()[0])
    assert stored == kept
