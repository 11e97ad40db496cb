"""A damaged journal is salvaged and reported; it never keeps the service from starting (item 5)."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

from servers.process import free_port
from support.ledger import Ledger, check_rows
from support.process import Headgate, MakeHeadgate
from support.project import HOT_READINGS, SQLITE_SINK, sqlite_rows
from support.publisher import ledgers, publish_with_paho

MESSAGES = 4000
PAGE = 4096


def tear_the_tail(journal: Path, chance: random.Random) -> None:
    """A power cut in the middle of a write: the newest pages are not all there."""
    log = journal.with_name(journal.name + "-wal")
    victim = log if log.exists() and log.stat().st_size > 8 * PAGE else journal
    size = victim.stat().st_size
    with victim.open("r+b") as file:
        file.truncate(size - chance.randrange(PAGE // 2, 3 * PAGE))


def flip_bits(journal: Path, chance: random.Random) -> None:
    """A disk that gives back something else than it was given, in twenty places of the file's second half."""
    size = journal.stat().st_size
    with journal.open("r+b") as file:
        for _ in range(20):
            at = chance.randrange(size // 2, size)
            file.seek(at)
            byte = file.read(1)[0]
            file.seek(at)
            file.write(bytes([byte ^ 1 << chance.randrange(8)]))


def overwrite_the_last_pages(journal: Path, chance: random.Random) -> None:
    """The last tenth of the file is noise."""
    size = journal.stat().st_size
    with journal.open("r+b") as file:
        file.seek(size - size // 10)
        file.write(chance.randbytes(size // 10))


def overwrite_the_beginning(journal: Path, chance: random.Random) -> None:
    """The first page, without which the file is no database at all."""
    with journal.open("r+b") as file:
        file.write(chance.randbytes(PAGE))


def backlog(process: Headgate, *, checkpointed: bool) -> list[Ledger]:
    """Publish while the sink is away, and leave the journal as a dead process leaves it (or as a stopped one does)."""
    promised = ledgers(publish_with_paho(lambda: process.port, 4, MESSAGES // 4))
    assert process.sink("readings")["buffered"] == MESSAGES // 2
    if checkpointed:
        assert process.terminate() == 0
    else:
        process.kill()
    return promised


DAMAGES = {
    "torn tail of the log": (tear_the_tail, False, 0.8),
    "torn tail of the file": (tear_the_tail, True, 0.7),
    "flipped bits": (flip_bits, True, 0.3),
    "noise at the end": (overwrite_the_last_pages, True, 0.5),
    "noise at the beginning": (overwrite_the_beginning, True, 1.0),
}
"""The damage, the file it is done to, and the minimum share of records that must still be readable."""


@pytest.mark.parametrize(("damage", "checkpointed", "readable"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_journal_is_salvaged(
    headgate: MakeHeadgate,
    chance: random.Random,
    damage: Callable[[Path, random.Random], None],
    checkpointed: bool,
    readable: float,
) -> None:
    """Item 5: the service starts, says what it found, delivers in order what is readable, and goes on."""
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in"}
    with headgate(sinks={"readings": away}, rules={"hot": HOT_READINGS}) as process:
        promised = backlog(process, checkpointed=checkpointed)
        damage(process.data_dir / "journal.sqlite", chance)
        said_before = len(process.log())
        process.write_sinks({"readings": SQLITE_SINK})
        process.start()
        process.settle()
        salvaged = sqlite_rows(process.directory)
        print(f"{len(salvaged)} of {MESSAGES // 2} rows were salvaged")
        assert len(salvaged) >= MESSAGES // 2 * readable
        nothing_promised = [Ledger(ledger.client, ledger.published) for ledger in promised]
        check_rows(salvaged, nothing_promised, exact=False)
        if len(salvaged) < MESSAGES // 2:
            assert "journal" in process.log()[said_before:].lower()
        process.check_counters()

        fresh = ledgers(publish_with_paho(lambda: process.port, 1, 500, prefix="after"))
        process.settle()
        check_rows([row for row in sqlite_rows(process.directory) if row[0] == "after-0"], fresh)
        process.check_counters()
        process.restart()
        process.check_counters()


def test_most_of_a_journal_with_a_few_flipped_bits_is_salvaged(headgate: MakeHeadgate, chance: random.Random) -> None:
    """A damaged place costs what stood there and no more."""
    away = {"type": "http", "url": f"http://127.0.0.1:{free_port()}/in"}
    with headgate(sinks={"readings": away}, rules={"hot": HOT_READINGS}) as process:
        backlog(process, checkpointed=True)
        journal = process.data_dir / "journal.sqlite"
        size = journal.stat().st_size
        with journal.open("r+b") as file:
            file.seek(chance.randrange(size // 2, size * 3 // 4))
            file.write(b"\xff\x00\xff\x00")
        process.write_sinks({"readings": SQLITE_SINK})
        process.start()
        process.settle()
        assert len(sqlite_rows(process.directory)) > MESSAGES // 2 * 0.8
        process.check_counters()
