"""A journal whose file was damaged starts, reports it, and loses nothing that can be read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from random import Random
from zlib import crc32

import pytest

from engine.delivery import Outbox
from engine.delivery.journal import Journal
from engine.errors import JournalError, NotConnectedError
from engine.testing import FlakySink, MemorySink, pump
from support.deliveries import FILE, World, chunk, options

BLOCKS = 120
ROWS = 3


def never_connected() -> FlakySink:
    return FlakySink(connects=[NotConnectedError("away")] * 10_000)


async def filled(directory: Path, *, text: int = 40, blocks: int = BLOCKS) -> World:
    """A journal in which `blocks` blocks of `ROWS` records wait in two lanes, closed in order."""
    world = World(directory)
    await world.start()
    outbox = await world.open(never_connected(), options(lanes=2))
    for number in range(blocks):
        rows = [{"n": number * ROWS + i, "text": f"{number:05}" * (text // 5)} for i in range(ROWS)]
        await world.put(outbox, chunk(*rows, client=f"c{number % 2}", lane=number % 2))
    await world.stop()
    return world


async def crashed(directory: Path) -> World:
    """The same with 40 blocks in the file, and 20 more in the log beside it that a crash left."""
    world = await filled(directory / "a", blocks=40)
    await world.start()
    outbox = await world.open(never_connected(), options(lanes=2))
    for number in range(40, 60):
        rows = [{"n": number * ROWS + i} for i in range(ROWS)]
        await world.put(outbox, chunk(*rows, client=f"c{number % 2}", lane=number % 2))
    await world.crash(directory / "b")
    return world


async def delivered(world: World) -> tuple[list[int], Outbox]:
    """Return the numbers that a sink gets of `world` when it is started, once no record waits."""
    sink = MemorySink()
    outbox = await world.open(sink, options(lanes=2))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert outbox.counters.emitted == outbox.counters.delivered + outbox.counters.dropped
    assert outbox.status().buffered_bytes == 0
    assert outbox.counters.delivered == len(sink.rows)
    for lane in range(2):
        numbers = [r.row["n"] for r in sink.records if r.client_id == f"c{lane}"]
        assert numbers == sorted(set(numbers)), "order is kept, and nothing comes twice"
    return [row["n"] for row in sink.rows], outbox


def offsets(size: int, count: int) -> list[int]:
    random = Random(size)
    return [1, 17, 100, 4095, 4096, 4097, *(random.randrange(size) for _ in range(count)), size - 1]


@pytest.mark.parametrize("part", range(12))
async def test_records_in_the_remaining_pages_of_a_truncated_file_are_delivered(tmp_path: Path, part: int) -> None:
    """A power cut leaves a torn tail; everything before it can be read."""
    world = await filled(tmp_path / "a")
    data = world.path.read_bytes()
    keep = (part * 2 + 1) * len(data) // 24 + part * 7
    world.path.write_bytes(data[:keep])

    report = await world.start()
    numbers, outbox = await delivered(world)

    assert report.quarantined is not None
    assert report.quarantined.read_bytes() == data[:keep], "the damaged file is kept as it was"
    intact = [n for n in range(BLOCKS) if _stands_whole_in(f"{n:05}" * 8, data[: keep // 4096 * 4096])]
    assert set(numbers) >= {n * ROWS for n in intact}
    if numbers:
        assert outbox.counters.emitted in (BLOCKS * ROWS, len(numbers)), "what is missing is counted, where it is known"
    await world.stop()


def _stands_whole_in(text: str, data: bytes) -> bool:
    return data.count(text.encode()) >= ROWS


@pytest.mark.parametrize("seed", range(40))
async def test_flipped_bytes_cost_no_more_than_the_blocks_they_hit(tmp_path: Path, seed: int) -> None:
    """A damaged block must never be delivered, and must never keep the others from being delivered."""
    world = await filled(tmp_path / "a", text=40 if seed % 2 else 3000)
    data = bytearray(world.path.read_bytes())
    random = Random(seed)
    for _ in range(random.choice([1, 3, 20])):
        data[random.randrange(100, len(data))] ^= 1 << random.randrange(8)
    world.path.write_bytes(data)

    await world.start()
    numbers, outbox = await delivered(world)

    assert set(numbers) <= set(range(BLOCKS * ROWS))
    assert len(numbers) + outbox.counters.dropped_corrupted == BLOCKS * ROWS
    await world.stop()


@pytest.mark.parametrize("seed", range(8))
async def test_one_flipped_bit_anywhere_costs_one_block_at_most(tmp_path: Path, seed: int) -> None:
    """Schema, indexes, positions and counters can be made anew from the blocks, whose checksums cover their places."""
    world = await filled(tmp_path / "a", text=20, blocks=40)
    data = world.path.read_bytes()
    random = Random(seed)
    for number in range(60):
        place, bit = random.randrange(len(data)), random.randrange(8)
        damaged = bytearray(data)
        damaged[place] ^= 1 << bit
        world.directory = tmp_path / str(number)
        world.directory.mkdir()
        world.path.write_bytes(damaged)

        await world.start()
        numbers, outbox = await delivered(world)

        assert len(numbers) >= 39 * ROWS, f"bit {bit} of byte {place}"
        assert len(numbers) + outbox.counters.dropped_corrupted == 40 * ROWS, f"bit {bit} of byte {place}"
        await world.stop()


@pytest.mark.parametrize("change", ["seq = seq + 1000", "lane = lane + 5", "count = count + 1", "cursor = 70"])
async def test_a_block_with_a_changed_place_is_rejected(tmp_path: Path, change: str) -> None:
    """Its data may be intact. Delivered as other records, or moving a cursor, it would cost order or records."""
    world = await filled(tmp_path, blocks=6)
    with sqlite3.connect(world.path) as db:
        db.execute(f"UPDATE block SET {change} WHERE id = 3")
    db.close()

    await world.start()
    numbers, outbox = await delivered(world)

    assert sorted(numbers) == [n for n in range(6 * ROWS) if n // ROWS != 2]
    assert outbox.counters.dropped_corrupted == ROWS
    await world.stop()


@pytest.mark.parametrize(("was", "is_now"), [('"cursor":0', '"cursor":9'), ('"next_seq":10', '"next_seq":4')])
async def test_a_changed_position_is_rejected(tmp_path: Path, was: str, is_now: str) -> None:
    """A cursor that is too high would skip waiting records; a next number that is too low would be given twice."""
    world = await filled(tmp_path, blocks=6)
    with sqlite3.connect(world.path) as db:
        db.execute("UPDATE sink SET state = replace(state, ?, ?)", (was, is_now))
    db.close()

    report = await world.start()
    numbers, outbox = await delivered(world)
    await world.put(outbox, chunk(-1))

    assert report.quarantined is not None
    assert sorted(numbers) == list(range(6 * ROWS))
    assert world.journal.failing is None
    await world.stop()


async def test_a_block_that_the_index_misses_is_found_all_the_same(tmp_path: Path) -> None:
    """Blocks are found by their index; where that is damaged they are still readable, so they may not be lost."""
    world = await filled(tmp_path, blocks=6)
    _forget_in_index(world.path, "block_by_lane", "seq <> 4")

    report = await world.start()
    numbers, outbox = await delivered(world)

    assert report.quarantined is None, "after an orderly stop the file is believed"
    assert sorted(numbers) == list(range(6 * ROWS))
    assert outbox.counters.dropped_corrupted == 0
    assert list((tmp_path / "quarantine").iterdir())
    await world.stop()


async def test_a_block_that_the_index_puts_into_another_lane_is_not_delivered_there(tmp_path: Path) -> None:
    """Its data is intact. In the other lane it would be delivered twice, or out of order."""
    world = await filled(tmp_path, blocks=40)
    data = bytearray(world.path.read_bytes())
    with sqlite3.connect(world.path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block_by_lane'").fetchone()
    db.close()
    # Two lanes of 20 blocks stand one behind the other on the index's only page, as pointers to its cells.
    pointers = (root - 1) * 4096 + 8
    one, other = pointers + 2 * 10, pointers + 2 * 30
    data[other : other + 2] = data[one : one + 2]
    world.path.write_bytes(data)

    await world.start()
    numbers, outbox = await delivered(world)

    assert sorted(numbers) == list(range(40 * ROWS))
    assert outbox.counters.dropped_corrupted == 0
    await world.stop()


def _forget_in_index(path: Path, index: str, kept: str) -> None:
    """Take entries out of an index by making it a partial one, filling it anew, and taking that back."""
    schema = "UPDATE sqlite_schema SET sql = {} WHERE name = ?"
    steps = [(schema.format(f"sql || ' WHERE {kept}'"), (index,)), (f"REINDEX {index}", ())]
    steps.append((schema.format(f"replace(sql, ' WHERE {kept}', '')"), (index,)))
    for sql, values in steps:
        with sqlite3.connect(path) as db:
            db.execute("PRAGMA writable_schema = ON")
            db.execute(sql, values)
        db.close()


async def test_a_flipped_bit_in_the_log_costs_one_block_and_not_all_that_follow(tmp_path: Path) -> None:
    """SQLite takes the commits after it for never written. They were acknowledged, and a sink that stores its position
    would skip records that get their numbers again."""
    world = await crashed(tmp_path)
    log = world.path.with_name(FILE + "-wal")
    data = log.read_bytes()
    for place in (20, *range(32 + 24 + 50, len(data) // 2, 9 * 4120)):
        damaged = tmp_path / str(place)
        damaged.mkdir()
        (damaged / FILE).write_bytes(world.path.read_bytes())
        (damaged / f"{FILE}-wal").write_bytes(data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :])
        other = World(damaged)
        report = await other.start()
        numbers, _ = await delivered(other)
        assert len(numbers) >= 59 * ROWS
        assert report.numbers_may_repeat
        assert report.quarantined is not None
        await other.stop()


@pytest.mark.parametrize("place", [-5000, -100])
async def test_a_commit_torn_by_a_power_cut_is_not_damage(tmp_path: Path, place: int) -> None:
    """It was never acknowledged. The file is intact; a quarantine would only alarm people."""
    world = await filled(tmp_path / "a", blocks=10)
    await world.start()
    outbox = await world.open(never_connected(), options(lanes=2))
    await world.put(outbox, chunk({"n": 10 * ROWS, "text": "x" * 9000}, client="c0"))
    await world.crash(tmp_path / "b")
    log = world.path.with_name(FILE + "-wal")
    data = log.read_bytes()
    log.write_bytes(data[:place] + bytes(50) + data[place + 50 :])

    report = await world.start()
    numbers, _ = await delivered(world)

    assert sorted(numbers) == list(range(10 * ROWS))
    assert report.quarantined is None
    assert "torn" in report.message
    assert report.numbers_may_repeat, "should it have been acknowledged after all, its number is given again"
    await world.stop()


async def test_deleted_blocks_do_not_hide_those_that_took_their_ids(tmp_path: Path) -> None:
    """Without the header it is unknown which pages are free, so that deleted rows on them are read as well."""
    world = await filled(tmp_path, blocks=100)
    with sqlite3.connect(world.path, isolation_level=None) as db:
        db.execute("PRAGMA secure_delete = OFF")
        last = db.execute("SELECT * FROM block ORDER BY id DESC LIMIT 10").fetchall()
        db.execute("DELETE FROM block")
        marks = ", ".join("?" * len(last[0]))
        db.executemany(f"INSERT INTO block VALUES ({marks})", [(i, *row[1:]) for i, row in enumerate(last, 1)])
    db.close()
    data = bytearray(world.path.read_bytes())
    data[:100] = b"\xaa" * 100
    world.path.write_bytes(data)

    await world.start()
    numbers, _ = await delivered(world)

    assert set(numbers) >= set(range(90 * ROWS, 100 * ROWS))
    await world.stop()


async def test_a_block_of_an_unknown_sink_is_kept(tmp_path: Path) -> None:
    """A wrong number in one block must not keep everything else from being served."""
    world = await filled(tmp_path, blocks=10)
    with sqlite3.connect(world.path) as db:
        # As format 1 wrote it, whose checksums did not cover the lane.
        db.create_function("crc32", 1, crc32)
        db.execute("UPDATE block SET lane = lane + 640, crc = crc32(data) WHERE id = 5")
    db.close()
    data = bytearray(world.path.read_bytes())
    data[:100] = b"\xaa" * 100
    world.path.write_bytes(data)

    await world.start()
    numbers, outbox = await delivered(world)

    assert len(numbers) == 9 * ROWS
    assert outbox.counters.dropped_corrupted == ROWS
    assert world.delivery.unconfigured().keys() == {"s~11"}
    await world.stop()


@pytest.mark.parametrize("seed", range(20))
async def test_a_damaged_log_costs_no_more_than_it_held(tmp_path: Path, seed: int) -> None:
    """A crash leaves a log beside the file, and a power cut damages its tail first."""
    world = await crashed(tmp_path)
    log = world.path.with_name(FILE + "-wal")
    data = bytearray(log.read_bytes())
    random = Random(seed)
    if seed % 2:
        data = data[: random.randrange(len(data))]
    else:
        data[random.randrange(len(data))] ^= 0xFF
    log.write_bytes(data)

    await world.start()
    numbers, _ = await delivered(world)

    assert numbers
    assert set(numbers) >= set(range(40 * ROWS)), "what the file itself holds is all there"
    await world.stop()


async def test_a_missing_log_is_reported(tmp_path: Path) -> None:
    """Deleting the -wal file after a crash loses acknowledged records, which must be reported."""
    world = await filled(tmp_path / "a", blocks=10)
    await world.start()
    outbox = await world.open(never_connected(), options(lanes=2))
    await world.put(outbox, chunk(1000))
    await world.crash(tmp_path / "b")
    world.path.with_name(FILE + "-wal").unlink()

    report = await world.start()
    numbers, _ = await delivered(world)

    assert not report.was_clean
    assert report.numbers_may_repeat
    assert "log" in report.message
    assert sorted(numbers) == list(range(10 * ROWS))
    await world.stop()


@pytest.mark.parametrize("garbage", [b"", b"not a database at all", b"\0" * 10_000, bytes(range(256)) * 64])
async def test_a_file_of_garbage_is_quarantined_and_a_new_one_begun(tmp_path: Path, garbage: bytes) -> None:
    """The service starts, whatever the file of the journal holds."""
    world = World(tmp_path)
    world.path.write_bytes(garbage)

    report = await world.start()

    assert report.quarantined is not None
    assert report.quarantined.read_bytes() == garbage
    assert report.quarantined.parent == tmp_path / "quarantine"
    sink = MemorySink()
    await world.put(await world.open(sink), chunk(1))
    assert sink.rows == [{"n": 1}]
    await world.stop()


async def test_two_damaged_files_do_not_overwrite_each_other_in_quarantine(tmp_path: Path) -> None:
    """A quarantined file may hold the last copy of somebody's data."""
    world = World(tmp_path)
    kept = []
    for garbage in (b"one", b"two"):
        world.path.write_bytes(garbage)
        kept.append((await world.start()).quarantined)
        await world.stop()
    assert [path.read_bytes() for path in kept if path] == [b"one", b"two"]


async def test_a_block_that_fails_its_checksum_is_quarantined_and_the_rest_delivered(tmp_path: Path) -> None:
    """One damaged block must neither stop a lane nor be read again and again."""
    world = await filled(tmp_path, blocks=6)
    with sqlite3.connect(world.path) as db:
        db.execute(
            "UPDATE block SET data = CAST(substr(data, 1, 30) || x'ffff' || substr(data, 33) AS BLOB) WHERE id = 3"
        )
    db.close()

    await world.start()
    numbers, outbox = await delivered(world)
    await world.journal.flush()

    assert sorted(numbers) == [n for n in range(6 * ROWS) if n // ROWS != 2]
    assert outbox.counters.dropped_corrupted == ROWS
    assert world.journal.corrupted == 1
    rows = await world.journal.store.query(lambda db: db.execute("SELECT id, reason FROM damaged").fetchall())
    assert rows == [(3, "the block does not match its checksum")]
    await world.stop()


async def test_a_page_that_goes_bad_while_running_is_repaired_without_a_restart(tmp_path: Path) -> None:
    """Damage that is found while a backlog is read takes no action of a person."""
    world = await filled(tmp_path, text=400)
    with sqlite3.connect(world.path) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_schema WHERE name = 'block'").fetchone()
    db.close()
    data = bytearray(world.path.read_bytes())
    data[(root - 1) * 4096 : (root - 1) * 4096 + 64] = b"\xee" * 64
    world.path.write_bytes(data)

    report = await world.start()
    assert report.quarantined is None, "after an orderly stop the file is believed"
    numbers, outbox = await delivered(world)
    more = MemorySink()
    await world.delivery.close("s")
    outbox = await world.open(more, options(lanes=2))
    await world.put(outbox, chunk(-1))

    assert sorted(numbers) == list(range(BLOCKS * ROWS)), "all leaf pages were readable"
    assert world.journal.recovery.is_loss, "people must hear of it"
    with sqlite3.connect(world.path) as db:
        assert db.execute("SELECT value FROM meta WHERE name = 'clean'").fetchone() == (0,), "a crash must be seen"
    db.close()
    assert more.rows == [{"n": -1}]
    assert len(list((tmp_path / "quarantine").iterdir())) >= 1
    await world.stop()


async def test_a_journal_of_a_newer_format_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A downgrade must not destroy the data of the newer version."""
    world = await filled(tmp_path, blocks=2)
    with sqlite3.connect(world.path) as db:
        db.execute("PRAGMA user_version = 999")
        db.execute("UPDATE meta SET value = 999 WHERE name = 'format'")
    db.close()
    data = world.path.read_bytes()

    with pytest.raises(JournalError, match=f"{FILE}.*newer"):
        await Journal(world.path).start()

    assert world.path.read_bytes() == data
    assert not (tmp_path / "quarantine").exists()


async def test_a_database_of_another_application_is_refused_and_left_alone(tmp_path: Path) -> None:
    """A wrong data_dir must not cost anybody their database."""
    path = tmp_path / FILE
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE precious (x)")
    db.close()

    with pytest.raises(JournalError, match=f"{FILE}.*not a journal"):
        await Journal(path).start()

    with sqlite3.connect(path) as db:
        assert db.execute("SELECT count(*) FROM precious").fetchone() == (0,)
    db.close()


async def test_dead_letters_and_counters_survive_damage(tmp_path: Path) -> None:
    """A dead letter is as valuable as other records: only the journal has it."""
    world = await filled(tmp_path, blocks=20)
    await world.start()
    sink = FlakySink(writes=[ValueError("bug")] * 1000)
    outbox = await world.open(sink, options(lanes=2, retry={"max_unknown": 1}))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert outbox.counters.dead_lettered == 20 * ROWS
    await world.stop()
    data = bytearray(world.path.read_bytes())
    data[:100] = b"\xaa" * 100
    world.path.write_bytes(data)

    await world.start()
    outbox = await world.open(MemorySink(), options(lanes=2))
    letters = await world.delivery.dead_letters("s", limit=1000)

    assert sorted(letter.row["n"] for letter in letters) == list(range(20 * ROWS))
    assert outbox.counters.dead_lettered == 20 * ROWS
    assert outbox.counters.emitted == 20 * ROWS
    await pump()
    await world.stop()


@pytest.mark.parametrize("moved", [(), ("",), ("", "-wal")])
async def test_a_rescue_that_was_interrupted_is_completed(tmp_path: Path, moved: tuple[str, ...]) -> None:
    """A crash between the moves of the damaged and of the rescued file must lose neither."""
    world = await filled(tmp_path / "a")
    rescued = world.path.with_name(FILE + ".salvaged")
    world.path.replace(rescued)
    for suffix in ("", "-wal"):
        if suffix not in moved:
            world.path.with_name(FILE + suffix).write_bytes(b"damaged" * 1000)

    report = await world.start()
    numbers, _ = await delivered(world)

    assert sorted(numbers) == list(range(BLOCKS * ROWS))
    assert not rescued.exists()
    assert report.numbers_may_repeat
    assert "interrupted" in report.message
    await world.stop()


async def test_a_rescue_that_failed_leaves_nothing_to_be_completed(tmp_path: Path) -> None:
    """The process goes on with the damaged file. The salvaged one must not replace it at the next start, because it
    lacks the records of the time between."""
    world = await filled(tmp_path)
    await world.start()
    outbox = await world.open(never_connected(), options(lanes=2))
    obstacle = tmp_path / "quarantine"
    obstacle.write_text("in the way")
    world.journal._repair.start("a bad page")
    await world.journal._repair.finished()
    hold = await world.put(outbox, chunk({"n": BLOCKS * ROWS}, client="c0"))
    assert hold.done
    assert not hold.failed
    await world.stop()
    obstacle.unlink()

    await world.start()
    numbers, _ = await delivered(world)

    assert sorted(numbers) == list(range(BLOCKS * ROWS + 1))
    await world.stop()
