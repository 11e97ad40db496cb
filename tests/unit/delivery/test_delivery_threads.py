"""Delivery on the real journal, threads and clock included."""

from __future__ import annotations

import asyncio
from pathlib import Path
from random import Random

from engine.delivery import DeliveryService
from engine.delivery.journal import Journal
from engine.testing import MemorySink
from support.deliveries import chunk, options


async def test_publishers_and_sinks_agree_on_every_record(tmp_path: Path) -> None:
    """Six sinks, eight publishers, and the counters of each add up."""
    journal = Journal(tmp_path / "j.sqlite")
    await journal.start()
    delivery = DeliveryService(journal)
    await delivery.start()
    sinks = [MemorySink() for _ in range(6)]
    outboxes = [
        await delivery.open(f"s{n}", sink, options(lanes=2, batch={"time": "1ms"})) for n, sink in enumerate(sinks)
    ]

    async def publisher(key: int) -> None:
        for n in range(50):
            item = chunk({"key": key, "n": n}, client=f"c{key}", lane=key)
            for outbox in outboxes:
                outbox.put(item)
            await delivery.hold().wait()

    async with asyncio.timeout(30):
        await asyncio.gather(*(publisher(key) for key in range(8)))
        for outbox in outboxes:
            await outbox.drained()
    for sink, outbox in zip(sinks, outboxes, strict=True):
        assert outbox.counters.delivered == outbox.counters.emitted == len(sink.rows) == 400
        for key in range(8):
            assert [row["n"] for row in sink.rows if row["key"] == key] == list(range(50))
    await delivery.stop()
    await journal.stop()


async def test_opening_closing_and_replacing_at_random_loses_nothing(tmp_path: Path) -> None:
    """A start and stop stress: whatever is interrupted, each record comes, in order, and no task is left behind."""
    random = Random(5)
    before = len(asyncio.all_tasks())
    rows: list[int] = []
    put = 0
    for _ in range(12):
        journal = Journal(tmp_path / "j.sqlite")
        assert (await journal.start()).was_clean
        delivery = DeliveryService(journal)
        await delivery.start()
        sinks = [MemorySink()]
        outbox = await delivery.open("s", sinks[0], options(lanes=1, batch={"size": 3}))
        for _ in range(8):
            for _ in range(random.randrange(5)):
                outbox.put(chunk(put))
                put += 1
            match random.randrange(4):
                case 0:
                    await asyncio.sleep(0)
                case 1:
                    await delivery.hold().wait()
                case 2:
                    sinks.append(MemorySink())
                    await delivery.replace("s", sinks[-1], options(lanes=1, batch={"size": random.choice([1, 50])}))
                case 3:
                    await delivery.close("s")
                    sinks.append(MemorySink())
                    outbox = await delivery.open("s", sinks[-1], options(lanes=1))
        await asyncio.gather(delivery.stop(), delivery.stop())
        await journal.stop()
        rows += [row["n"] for sink in sinks for row in sink.rows]
    journal = Journal(tmp_path / "j.sqlite")
    await journal.start()
    delivery = DeliveryService(journal)
    sink = MemorySink()
    outbox = await delivery.open("s", sink, options())
    async with asyncio.timeout(10):
        await outbox.drained()
    assert rows + [row["n"] for row in sink.rows] == list(range(put))
    await delivery.stop()
    await journal.stop()
    assert len(asyncio.all_tasks()) == before
