"""Backlog on disk: read in batches, in order, over restarts and changes of options."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random
from typing import Any

import pytest

from engine.errors import NotConnectedError
from engine.model.record import Batch
from engine.testing import FlakySink, MemorySink, pump
from support.deliveries import SlowDisk, World, chunk, options


def away() -> FlakySink:
    return FlakySink(connects=[NotConnectedError("away")] * 10_000)


async def restart(world: World) -> None:
    await world.stop()
    await world.start()


async def test_a_backlog_is_delivered_after_a_restart(world: World) -> None:
    """An outage may outlast the process."""
    outbox = await world.open(away())
    await world.put(outbox, *(chunk(n) for n in range(10)))
    await restart(world)
    sink = MemorySink()
    outbox = await world.delivery.open("s", sink, options())
    assert outbox.status().buffered == 10
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in sink.rows] == list(range(10))
    await world.put(outbox, chunk(10))
    assert [record.seq for record in sink.records] == list(range(1, 12)), "numbers go on where they were"


async def test_counters_of_rules_and_sinks_survive_a_restart_and_a_crash(world: World, tmp_path: Path) -> None:
    """They are stored with the records they count."""
    rule = world.delivery.rule_counters("r")
    outbox = await world.open(MemorySink())
    rule.received += 3
    rule.emitted += 2
    rule.filtered += 1
    rule.records += 2
    await world.put(outbox, chunk(1, 2))
    await world.crash(tmp_path / "crashed")
    await world.start()
    rule = world.delivery.rule_counters("r")
    assert (rule.received, rule.emitted, rule.filtered, rule.records) == (3, 2, 1, 2)
    outbox = await world.open(MemorySink())
    assert outbox.counters.emitted == 2
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert outbox.counters.delivered == 2, "what is delivered again after a crash is counted once"


async def test_a_rule_that_only_filters_is_stored_too(world: World) -> None:
    """Its messages make no record to travel with."""
    rule = world.delivery.rule_counters("quiet")
    rule.received += 5
    rule.filtered += 5
    await world.clock.advance(2.0)
    await world.crash(world.directory / "crashed")
    await world.start()
    assert world.delivery.rule_counters("quiet").filtered == 5


@pytest.mark.parametrize("seed", range(8))
async def test_order_is_kept_between_memory_and_disk_while_records_keep_coming(world: World, seed: int) -> None:
    """A lane changes between the two without gap, repetition or reordering, at any speed of the sink."""
    random = Random(seed)

    async def sometimes_slow(_: Batch) -> None:
        await world.clock.sleep(random.choice([0, 0, 0.01, 0.5]))

    sink = FlakySink(writes=[sometimes_slow] * 10_000)
    config = options(buffer={"memory_bytes": 3000}, batch={"size": 7})
    outbox = await world.open(sink, config)
    put = 0
    for _ in range(150):
        for _ in range(random.randrange(6)):
            size = random.randrange(1, 12)
            outbox.put(chunk(*range(put, put + size)))
            put += size
        await pump(random.randrange(8))
        if random.random() < 0.3:
            await world.clock.advance(random.choice([0.01, 0.3]))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in sink.rows] == list(range(put))
    assert outbox.status().buffered_bytes == 0


async def test_memory_holds_no_more_than_its_share_of_a_backlog(world: World) -> None:
    """The rest is on disk, where there is room."""
    outbox = await world.open(away(), options(buffer={"memory_bytes": 6 * 10_000}))
    text = "x" * 1000
    for n in range(200):
        await world.put(outbox, chunk({"n": n, "text": text}))
    (lane,) = outbox._lanes.values()
    in_memory = sum(len(c.rows) for s in [*lane._queue._head, *lane._queue._tail] for c in s.chunks)
    assert in_memory <= 12
    assert outbox.status().buffered == 200


@pytest.mark.parametrize("steps", [[1, 4], [4, 1], [3, 2, 5, 1], [2, 7, 2]])
async def test_order_per_client_outlives_a_change_of_lanes(world: World, steps: list[int]) -> None:
    """A client may move to another lane while older records of it wait in its old one."""
    put: dict[int, list[int]] = {key: [] for key in range(6)}

    async def fill(outbox: Any) -> None:
        for n in range(30):
            key = n % 6
            number = len(put[key])
            put[key].append(number)
            await world.put(outbox, chunk({"key": key, "n": number}, client=f"c{key}", lane=key))

    outbox = await world.open(away(), options(lanes=steps[0], batch={"size": 2}))
    await fill(outbox)
    for lanes in steps[1:]:
        await restart(world)
        outbox = await world.open(away(), options(lanes=lanes, batch={"size": 2}))
        await fill(outbox)
    await restart(world)
    sink = MemorySink()
    outbox = await world.open(sink, options(lanes=steps[-1], batch={"size": 2}))
    await fill(outbox)
    await world.advance_until(lambda: not outbox.counters.buffered)
    for key, numbers in put.items():
        assert [row["n"] for row in sink.rows if row["key"] == key] == numbers
    assert len({record.id for record in sink.records}) == len(sink.rows), "no id is given twice"
    assert outbox._state.barriers == []


async def test_removed_lanes_deliver_the_records_of_the_commit_under_way(tmp_path: Path) -> None:
    """Under load a commit is always under way. A lane that had nothing else waiting would keep its records until the
    next start, and with them the whole sink, which waits for them to go first."""
    world = World(tmp_path, make_worker=SlowDisk)
    await world.start()
    outbox = await world.open(MemorySink(), options(lanes=4))
    SlowDisk.is_slow = True
    await world.put(outbox, chunk(1, lane=3))
    sink = MemorySink()
    await world.delivery.replace("s", sink, options(lanes=1))
    SlowDisk.release()
    await pump()
    await world.put(outbox, chunk(2, lane=3))
    assert [row["n"] for row in sink.rows] == [1, 2]
    await world.stop()


async def test_a_change_of_the_lane_key_keeps_order_too(world: World) -> None:
    """It sends records to other lanes, like a change of their number."""
    outbox = await world.open(away(), options(lanes=3))
    for n in range(12):
        await world.put(outbox, chunk({"machine": n % 2, "n": n}, client="gateway", lane=1))
    sink = MemorySink()
    await world.delivery.replace("s", sink, options(lanes=3, lane_key="${machine}"))
    for n in range(12, 24):
        await world.put(outbox, chunk({"machine": n % 2, "n": n}, client="gateway", lane=1))
    await world.advance_until(lambda: not outbox.counters.buffered)
    for machine in range(2):
        numbers = [row["n"] for row in sink.rows if row["machine"] == machine]
        assert numbers == list(range(machine, 24, 2))


async def test_replacing_a_sink_keeps_the_outbox_and_its_backlog(world: World) -> None:
    """Records that arrive during a reload must not be lost: intake goes on putting into the same object."""
    release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    old, new = FlakySink(writes=[lambda _: release]), MemorySink()
    outbox = await world.open(old)
    await world.put(outbox, chunk(1))
    await world.put(outbox, chunk(2))
    replacing = asyncio.gather(world.delivery.replace("s", new, options()))
    await pump()
    await world.put(outbox, chunk(3))
    release.set_result(None)
    await pump()
    assert (await replacing)[0] is outbox
    await world.put(outbox, chunk(4))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in old.rows] == [1]
    assert [row["n"] for row in new.rows] == [2, 3, 4]
    assert old.closes == 1


async def test_a_sink_that_is_closed_keeps_its_backlog_and_is_reported(world: World) -> None:
    """A sink that is taken out of the configuration may be put back."""
    outbox = await world.open(away())
    await world.put(outbox, chunk(1, 2))
    await world.delivery.close("s")
    assert world.delivery.unconfigured() == {"s": 2}
    assert outbox.refusing, "whoever still holds it is told"
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in sink.rows] == [1, 2]
    assert world.delivery.unconfigured() == {}


async def test_stopping_lets_a_write_end_and_records_it(world: World) -> None:
    """An orderly stop must not make records come twice."""
    release: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    sink = FlakySink(writes=[lambda _: release])
    outbox = await world.open(sink, options(batch={"size": 1}))
    await world.put(outbox, chunk(1), chunk(2))
    stopping = asyncio.gather(world.delivery.stop(5.0))
    await pump()
    release.set_result(None)
    await stopping
    await world.journal.stop()
    assert [row["n"] for row in sink.rows] == [1], "nothing new is begun"
    assert sink.closes == 1
    assert outbox.status().state == "stopped"
    await world.start()
    again = MemorySink()
    outbox = await world.open(again)
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in again.rows] == [2]


async def test_stopping_does_not_wait_for_a_sink_that_hangs(world: World) -> None:
    """Its batch will be delivered again."""
    sink = FlakySink(writes=[lambda _: asyncio.get_running_loop().create_future()])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    stopping = asyncio.gather(world.delivery.stop(5.0))
    await world.clock.advance(5.1)
    await asyncio.wait_for(stopping, 1.0)
    assert outbox.status().buffered == 1


async def test_stopping_twice_or_without_a_start_is_fine(tmp_path: Path) -> None:
    """Code that cleans up after a failed start need not know how far it came."""
    world = World(tmp_path)
    await world.start()
    await world.open(MemorySink())
    for _ in range(2):
        await world.delivery.stop(1.0)
        await world.journal.stop()
