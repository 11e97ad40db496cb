"""What was delivered stays for replay, and goes in small steps."""

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


async def test_no_more_than_the_allowed_bytes_stay(world: World) -> None:
    """A busy sink must not fill the disk with what it has delivered; the oldest go first."""
    outbox = await world.open(MemorySink(), options(buffer={"retain_bytes": 5000}))
    for n in range(40):
        await world.put(outbox, chunk({"n": n, "text": "x" * 1000}))
    await world.clock.advance(2.0)
    kept = await world.journal.store.query(lambda db: db.execute("SELECT seq FROM block ORDER BY seq").fetchall())
    assert 3 <= len(kept) <= 5
    assert kept[-1] == (40,)


async def test_with_nothing_to_be_kept_blocks_go_once_delivered(world: World) -> None:
    """Some want no history."""
    outbox = await world.open(MemorySink(), options(buffer={"retain": 0}))
    for n in range(3 * BLOCKS_AT_ONCE):
        await world.put(outbox, chunk(n))
    await world.clock.advance(5.0)
    assert await blocks(world) == 0


async def test_what_waits_is_never_deleted(world: World) -> None:
    """However old it is, and however much."""
    sink = FlakySink(connects=[NotConnectedError("away")] * 100_000)
    outbox = await world.open(sink, options(buffer={"retain": 0, "retain_bytes": 0}, retry={"max": "1h"}))
    for n in range(20):
        await world.put(outbox, chunk(n))
    await world.clock.advance(3 * 86_400 / 60)
    assert await blocks(world) == 20


async def test_of_a_sink_that_is_not_open_nothing_is_deleted(world: World) -> None:
    """Whoever takes a sink out of the configuration may want its data yet."""
    outbox = await world.open(MemorySink(), options(buffer={"retain": 0}))
    await world.put(outbox, chunk(1))
    await world.stop()
    await world.start()
    await world.clock.advance(100.0)
    assert await blocks(world) <= 1
    assert world.journal.sinks["s"].retain_ms is None


async def test_pages_go_back_to_the_file_system(world: World) -> None:
    """After an outage the file becomes small again by itself."""
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


async def test_the_sum_of_what_is_kept_survives_a_restart(world: World) -> None:
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
