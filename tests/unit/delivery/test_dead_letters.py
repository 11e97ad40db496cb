"""Dead letters can be looked at, sent again and dropped, and the counters add up all the while."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from engine.delivery import Outbox
from engine.delivery.notice import NOTICE_EVERY_S
from engine.errors import HoldError, RejectError
from engine.service.log import hide
from engine.testing import FlakySink, MemorySink, pump
from support.deliveries import World, chunk, options

POOR = options(retry={"max_unknown": 1})


async def with_letters(world: World, count: int = 5) -> tuple[FlakySink, Outbox]:
    """A sink that rejected `count` records and takes everything from here on."""
    sink = FlakySink(writes=[{index: RejectError(f"bad {index % 2}") for index in range(count)}])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(*range(count), client="dev"))
    assert outbox.counters.dead_lettered == count
    return sink, outbox


def adds_up(outbox: Outbox) -> bool:
    counters = outbox.counters
    return counters.emitted == counters.delivered + counters.buffered + counters.dead_lettered + counters.dropped


async def test_letters_are_listed_in_pages_oldest_first(world: World) -> None:
    """There may be a million of them."""
    await with_letters(world)
    first = await world.delivery.dead_letters("s", limit=2)
    second = await world.delivery.dead_letters("s", limit=2, offset=2)
    assert [letter.row["n"] for letter in first + second] == [0, 1, 2, 3]
    assert (await world.delivery.dead_letter("s", first[1].id)).row == {"n": 1}
    assert [letter.message for letter in first] == ["bad 0", "bad 1"]


async def test_new_dead_letters_are_logged_together(world: World) -> None:
    """The log must show that records are given up, without hiding other lines."""
    two = {0: RejectError("bad 0"), 1: RejectError("bad 1")}
    sink = FlakySink(writes=[two, *[RejectError(f"bad {number}") for number in (2, 3, 4)]])
    outbox = await world.open(sink)
    with capture_logs() as logs:
        await world.put(outbox, chunk(0, 1))
        for number in (2, 3):
            await world.put(outbox, chunk(number))
        await world.clock.advance(NOTICE_EVERY_S)
        await world.put(outbox, chunk(4))
    assert [(entry["sink"], entry["count"], entry["reason"]) for entry in logs] == [
        ("s", 2, "bad 0"),
        ("s", 3, "bad 4"),
    ]


async def test_reasons_show_no_secrets(world: World) -> None:
    """A server may answer with the token it refuses, and an address may hold one; both are stored and shown."""
    hide(["tok-en-1"])
    sink = FlakySink(
        writes=[
            HoldError("401: tok-en-1 is no valid token"),
            RejectError("the URL 'http://h/..?token=tok-en-1' has a dot segment"),
        ]
    )
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    assert outbox.status().reason == "401: *** is no valid token"
    await world.advance_until(lambda: outbox.counters.dead_lettered == 1)
    (letter,) = await world.delivery.dead_letters("s")
    assert letter.message == "the URL 'http://h/..?token=***' has a dot segment"


async def test_unknown_sinks_and_letters_are_errors(world: World) -> None:
    """A mistyped name must not look like an empty list."""
    await with_letters(world)
    with pytest.raises(KeyError, match="no dead letter 77"):
        await world.delivery.dead_letter("s", 77)
    with pytest.raises(KeyError, match="no sink 'readngs'"):
        await world.delivery.dead_letters("readngs")


async def test_retried_letters_are_delivered_and_deleted(world: World) -> None:
    """A table that was repaired takes the rows it rejected before."""
    sink, outbox = await with_letters(world)
    letters = await world.delivery.dead_letters("s")
    assert await world.delivery.retry_dead_letters("s", [letters[1].id, letters[3].id, 999]) == 2
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in sink.rows] == [1, 3]
    assert sink.records[0].client_id == "dev"
    assert [letter.row["n"] for letter in await world.delivery.dead_letters("s")] == [0, 2, 4]
    assert outbox.counters.dead_lettered == 3
    assert outbox.counters.emitted == 5
    assert adds_up(outbox)
    assert await world.delivery.retry_dead_letters("s") == 3
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert sorted(row["n"] for row in sink.rows) == [0, 1, 2, 3, 4]
    assert outbox.counters.delivered == 5
    assert adds_up(outbox)


async def test_a_letter_that_is_rejected_again_is_kept_again(world: World) -> None:
    """Retrying too early must lose nothing."""
    sink = FlakySink(writes=[{0: RejectError("bad")}, {0: RejectError("still bad")}])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    await world.delivery.retry_dead_letters("s")
    await world.advance_until(lambda: not outbox.counters.buffered)
    (letter,) = await world.delivery.dead_letters("s")
    assert (letter.row, letter.message) == ({"n": 1}, "still bad")
    assert outbox.counters.dead_lettered == 1
    assert adds_up(outbox)


async def test_retrying_and_dropping_survive_a_crash_right_after(world: World, tmp_path: Path) -> None:
    """A letter leaves in the very commit that puts its record into the lane: never both, never neither."""
    _, outbox = await with_letters(world)
    letters = await world.delivery.dead_letters("s")
    assert await world.delivery.drop_dead_letters("s", [letters[0].id]) == 1
    await world.delivery.close("s")
    outbox = await world.open(FlakySink(connects=[OSError("away")] * 1000))
    assert await world.delivery.retry_dead_letters("s", [letters[1].id, letters[2].id]) == 2
    await world.crash(tmp_path / "crashed")
    await world.start()
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert [row["n"] for row in sink.rows] == [1, 2]
    assert [letter.row["n"] for letter in await world.delivery.dead_letters("s")] == [3, 4]
    counters = outbox.counters
    assert (counters.dead_lettered, counters.dropped_dead_letters) == (2, 1)
    assert adds_up(outbox)


async def test_commands_for_one_sink_leave_letters_of_others_alone(world: World) -> None:
    """Ids are counted over all sinks; a command names one."""
    await with_letters(world)
    other = FlakySink(writes=[{0: RejectError("no")}])
    outbox = await world.open(other, name="other")
    await world.put(outbox, chunk(7))
    (letter,) = await world.delivery.dead_letters("other")
    assert await world.delivery.drop_dead_letters("s", [letter.id]) == 0
    assert await world.delivery.drop_dead_letters("s") == 5
    assert len(await world.delivery.dead_letters("other")) == 1


async def test_a_reason_that_is_not_valid_text_does_not_stop_the_journal(world: World) -> None:
    """A server's message may hold anything; one letter must not stop the journal."""
    sink = FlakySink(writes=[{0: RejectError("bad \udcff byte", code="\ud800")}])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    (letter,) = await world.delivery.dead_letters("s")
    assert letter.message == "bad \\udcff byte"
    assert not (await world.put(outbox, chunk(2))).failed


async def test_a_letter_keeps_the_whole_record(world: World) -> None:
    """Bytes, big integers and where it came from."""
    sink = FlakySink(writes=[ValueError("bug")])
    outbox = await world.open(sink, POOR)
    row = {"n": 2**70, "blob": b"\xff\x00", "nested": {"a": [1, None, 1.5]}}
    await world.put(outbox, chunk(row, client="dev", rule="hot", time_ms=1234))
    (letter,) = await world.delivery.dead_letters("s")
    assert letter.row == row
    assert (letter.rule_id, letter.client_id, letter.topic, letter.time_ms) == ("hot", "dev", "t", 1234)
    assert letter.died_ms == world.clock.now_ms()


async def test_the_preview_of_an_unstorable_row_is_not_sent(world: World) -> None:
    """The preview is for people. A retry of all letters would write it into the user's table as if it were a
    row, and the letter would be gone."""
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.put(outbox, chunk({"n": object()}))
    assert await world.delivery.retry_dead_letters("s") == 0
    await pump()
    assert sink.rows == []
    assert outbox.counters.dead_lettered == 1


async def test_a_damaged_letter_does_not_hide_others_and_can_be_dropped(world: World) -> None:
    """One wrong byte must not make the list of letters unreadable."""
    outbox = await world.open(FlakySink(writes=[{0: RejectError("bad")}] * 3))
    for n in range(3):
        await world.put(outbox, chunk(n))
    await world.journal.flush()
    with sqlite3.connect(world.path) as db:
        db.execute("UPDATE dead_letter SET chunk = x'00ff' WHERE id = 2")
    db.close()
    letters = await world.delivery.dead_letters("s")
    assert [letter.row.get("n") for letter in letters] == [0, None, 2]
    assert "damaged" in letters[1].row["_unreadable"]
    assert await world.delivery.retry_dead_letters("s") == 2
    assert await world.delivery.drop_dead_letters("s") == 1
    assert (outbox.counters.dead_lettered, outbox.counters.dropped_dead_letters) == (0, 1)
