"""After ``kill -9`` every record whose hold was done is there."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from engine.delivery.journal import Journal
from engine.delivery.journal.sqlite.worker import ThreadWorker
from engine.testing import MemorySink, pump
from support.deliveries import FILE, World, options

CHILD = """
import asyncio, sys
from pathlib import Path
from engine.connector import ConnectorConfig
from engine.delivery import DeliveryService
from engine.errors import NotConnectedError
from engine.delivery.journal import Journal
from engine.model.record import Chunk
from engine.testing import FlakySink

async def main() -> None:
    journal = Journal(Path(sys.argv[1]))
    await journal.start()
    delivery = DeliveryService(journal)
    await delivery.start()
    sink = FlakySink(connects=[NotConnectedError("away")] * 1_000_000)
    outbox = await delivery.open("s", sink, ConnectorConfig(type="memory", lanes=2))

    async def publisher(number: int) -> None:
        n = 0
        while True:
            rows = [{"p": number, "n": n + i} for i in range(3)]
            n += 3
            outbox.put(Chunk("r", f"c{number}", number, 1, "t", rows))
            await delivery.hold().wait()
            print("acknowledged", number, n - 1, flush=True)

    await asyncio.gather(*(publisher(number) for number in range(8)))

asyncio.run(main())
"""


@pytest.mark.parametrize("after", [1, 200, 1500])
async def test_a_killed_process_loses_nothing_it_has_acknowledged(tmp_path: Path, after: int) -> None:
    """The first promise. The child says what was acknowledged; it is killed in the middle of a commit, or near one."""
    path = tmp_path / "journal.sqlite"
    child = await asyncio.create_subprocess_exec(
        sys.executable, "-c", CHILD, str(path), stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONPATH": "."},
        cwd=Path(__file__).parents[4],
    )  # fmt: skip
    assert child.stdout is not None
    lines: list[bytes] = []
    async with asyncio.timeout(60):
        while sum(line.startswith(b"acknowledged") for line in lines) < after:
            lines.append(await child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        lines += (await child.stdout.read()).splitlines()[:-1]
        await child.wait()
    acknowledged: dict[int, int] = {}
    for line in lines:
        if line.startswith(b"acknowledged"):
            publisher, number = map(int, line.split()[1:])
            acknowledged[publisher] = number

    world = World(tmp_path)
    report = await world.start()
    sink = MemorySink()
    outbox = await world.open(sink, options(lanes=2))
    await world.advance_until(lambda: not outbox.counters.buffered)

    assert not report.was_clean
    assert report.quarantined is None
    for publisher in range(8):
        numbers = [row["n"] for row in sink.rows if row["p"] == publisher]
        assert numbers == list(range(len(numbers)))
        assert len(numbers) > acknowledged.get(publisher, -1)
    assert outbox.counters.emitted == outbox.counters.delivered == len(sink.rows)
    await world.stop()


async def test_a_process_killed_before_it_wrote_anything_has_lost_nothing(tmp_path: Path) -> None:
    """The log beside the file did not exist yet. A report that it was lost would be wrong, and would make sinks forget
    their positions."""
    world = World(tmp_path / "a", make_worker=ThreadWorker)
    await world.start()
    await world.stop()
    await world.start()
    await world.crash(tmp_path / "b")
    report = await world.start()
    assert not report.was_clean
    assert not report.numbers_may_repeat
    assert "nothing is lost" in report.message
    await world.stop()


async def test_a_cancelled_start_ends_only_when_nothing_uses_the_file_any_more(tmp_path: Path) -> None:
    """Ctrl-C while a journal is salvaged: the salvage goes on in its thread, and the lock of the data directory must
    not be released before it has ended."""
    path = tmp_path / FILE
    path.write_bytes(b"garbage" * 1000)
    begun, go_on = threading.Event(), threading.Event()

    def salvaged() -> None:
        begun.set()
        go_on.wait()

    starting = asyncio.ensure_future(Journal(path, on_renumbered=salvaged).start())
    await asyncio.to_thread(begun.wait)
    starting.cancel()
    await pump()
    assert not starting.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert sorted(file.name for file in tmp_path.iterdir()) == [FILE, "quarantine"]
    journal = Journal(path)
    assert (await journal.start()).was_clean
    await journal.stop()
