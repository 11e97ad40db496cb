"""Outcomes of records for each answer of a sink."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from engine.delivery import Outbox
from engine.errors import (
    DuplicateError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
    SplitError,
)
from engine.model.record import Batch
from engine.testing import FlakySink, MemorySink
from support.deliveries import World, chunk, options


def numbers(sink: MemorySink) -> list[Any]:
    return [row["n"] for row in sink.rows]


def adds_up(outbox: Outbox) -> bool:
    counters = outbox.counters
    return counters.emitted == counters.delivered + outbox.status().buffered + counters.dead_lettered + counters.dropped


async def hang(_: Batch) -> None:
    await asyncio.get_running_loop().create_future()


async def test_records_reach_the_sink_in_order_and_are_counted(world: World) -> None:
    """The plain case."""
    sink = MemorySink()
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1, 2), chunk(3))
    assert numbers(sink) == [1, 2, 3]
    assert outbox.counters.delivered == 3
    assert [record.seq for record in sink.records] == [1, 2, 3]
    assert adds_up(outbox)


async def test_nothing_reaches_a_sink_before_it_is_in_the_journal(world: World) -> None:
    """Otherwise a crash could give the number of a delivered record to another one, which a sink would skip."""
    seen: list[int] = []
    sink = FlakySink(writes=[lambda batch: seen.append(world.journal.commits)])
    outbox = await world.open(sink)
    before = world.journal.commits
    await world.put(outbox, chunk(1))
    assert seen == [before + 1]


async def test_a_retry_waits_and_then_sends_the_same_batch(world: World) -> None:
    """An outage costs delay, not data."""
    sink = FlakySink(writes=[RetryableError("busy")] * 3)
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1, 2), chunk(3))
    assert outbox.status().state == "degraded"
    assert outbox.status().reason == "busy"
    assert outbox.status().next_attempt_ms is not None
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert numbers(sink) == [1, 2, 3]
    assert outbox.counters.retried == 3
    assert outbox.status().state == "connected"


async def test_the_server_decides_how_long_a_retry_waits(world: World) -> None:
    """A server that says Retry-After and is asked sooner may ban the client."""
    sink = FlakySink(writes=[RetryableError("slow down", retry_after_s=90.0)])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    await world.clock.advance(89.0)
    assert len(sink.attempts) == 1
    await world.clock.advance(2.0)
    assert numbers(sink) == [1]


async def test_later_records_wait_for_a_retry(world: World) -> None:
    """Order per client is kept through every error."""
    sink = FlakySink(writes=[RetryableError("busy")] * 5)
    outbox = await world.open(sink)
    for n in range(6):
        await world.put(outbox, chunk(n))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert numbers(sink) == [0, 1, 2, 3, 4, 5]


async def test_attempts_may_be_limited(world: World) -> None:
    """With a limit, a record that is never stored becomes a dead letter."""
    sink = FlakySink(writes=[RetryableError("busy", code="503")] * 3)
    outbox = await world.open(sink, options(retry={"max_attempts": 3}))
    await world.put(outbox, chunk(1), chunk(2))
    await world.advance_until(lambda: not outbox.counters.buffered)
    letters = await world.delivery.dead_letters("s")
    assert [letter.row["n"] for letter in letters] == [1, 2]
    assert {(letter.error_class, letter.code, letter.attempts) for letter in letters} == {("retry", "503", 3)}


async def test_only_the_records_that_failed_are_sent_again(world: World) -> None:
    """A sink that reports per record must not get records again that it has stored."""
    sink = FlakySink(writes=[{1: RetryableError("later"), 3: RetryableError("later")}])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(0, 1, 2, 3, 4))
    assert numbers(sink) == [0, 2, 4]
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert numbers(sink) == [0, 2, 4, 1, 3]
    assert outbox.counters.delivered == 5


async def test_a_rejected_record_becomes_a_dead_letter_and_the_others_are_stored(world: World) -> None:
    """One bad row never stops the others."""
    sink = FlakySink(writes=[{1: RejectError("text where a number belongs", code="22P02")}])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(0, 1, 2, client="dev"))
    assert numbers(sink) == [0, 2]
    (letter,) = await world.delivery.dead_letters("s")
    assert letter.row == {"n": 1}
    assert (letter.message, letter.code, letter.error_class) == ("text where a number belongs", "22P02", "reject")
    assert (letter.rule_id, letter.client_id, letter.topic, letter.seq) == ("r", "dev", "t", 2)
    assert outbox.counters.dead_lettered == 1
    assert adds_up(outbox)


async def test_a_record_that_is_there_already_counts_as_delivered(world: World) -> None:
    """After a cut connection the sink may have records that are sent again."""
    sink = FlakySink(writes=[{0: DuplicateError("key exists")}])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(0, 1))
    assert outbox.counters.delivered == 2
    assert outbox.counters.deduplicated == 1
    assert adds_up(outbox)


def refuse(poison: set[int], error: Exception) -> Any:
    """A sink that refuses a whole batch with `error` for one row in it."""

    def answer(batch: Batch) -> Exception | None:
        return error if poison & {row["n"] for row in batch.rows} else None

    return answer


@pytest.mark.parametrize(
    "error", [SplitError("bulk refused"), RejectError("bad row"), ValueError("bug")], ids=lambda e: type(e).__name__
)
async def test_a_batch_that_is_refused_as_a_whole_is_bisected(world: World, error: Exception) -> None:
    """The bad row of five hundred is found in some ten steps, in order, and only it is given up."""
    sink = FlakySink(writes=[refuse({137, 400}, error)] * 10_000)
    outbox = await world.open(sink, options(retry={"max_unknown": 2}))
    await world.put(outbox, chunk(*range(500)))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert numbers(sink) == [n for n in range(500) if n not in {137, 400}]
    letters = await world.delivery.dead_letters("s")
    assert [letter.row["n"] for letter in letters] == [137, 400]
    assert str(error) in letters[0].message
    assert len(sink.attempts) < 60
    assert adds_up(outbox)


async def test_the_cursor_follows_a_bisection(world: World) -> None:
    """Records that a bisection has stored must not be sent again after a crash in its middle."""
    sink = FlakySink(writes=[SplitError("no"), None, hang])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(*range(10)))
    assert outbox.counters.delivered == 5
    await world.delivery.journal.flush()
    assert outbox.status().buffered == 5


async def test_an_unknown_error_is_retried_a_bounded_number_of_times(world: World) -> None:
    """A bug in a connector must not block its sink for ever."""
    sink = FlakySink(writes=[KeyError("oops")] * 4)
    outbox = await world.open(sink, options(retry={"max_unknown": 4}))
    await world.put(outbox, chunk(1))
    await world.advance_until(lambda: not outbox.counters.buffered)
    (letter,) = await world.delivery.dead_letters("s")
    assert letter.error_class == "unknown"
    assert letter.message == "KeyError: 'oops'"
    assert letter.attempts == 4


async def test_a_write_without_an_answer_is_cancelled_and_sent_again(world: World) -> None:
    """A server that hangs must cost its own lane some seconds, and nothing else."""
    sink = FlakySink(writes=[hang])
    outbox = await world.open(sink, options(request_timeout=10))
    await world.put(outbox, chunk(1))
    await world.clock.advance(9.9)
    assert outbox.status().state == "connected"
    await world.clock.advance(0.2)
    assert "unknown" in (outbox.status().last_error or "")
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert numbers(sink) == [1]


async def test_a_lost_connection_is_made_again_once_for_all_lanes(world: World) -> None:
    """Four lanes that find the same server gone must not open four connections, nor tear a new one down."""
    cut = asyncio.Event()

    async def gone(_: Batch) -> Exception:
        await cut.wait()
        return NotConnectedError("gone")

    sink = FlakySink(writes=[gone] * 4)
    outbox = await world.open(sink, options(lanes=4))
    await world.put(outbox, *(chunk(n, lane=n) for n in range(4)))
    assert len(sink.attempts) == 4
    cut.set()
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert sorted(numbers(sink)) == [0, 1, 2, 3]
    assert sink.connects == 2


async def test_connecting_never_happens_while_a_write_is_under_way(world: World) -> None:
    """A connector may replace its connection in `connect` without asking who is using it."""
    release: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def slow(_: Batch) -> None:
        await release

    sink = FlakySink(writes=[slow, NotConnectedError("gone")])
    outbox = await world.open(sink, options(lanes=2))
    await world.put(outbox, chunk(0, lane=0))
    await world.put(outbox, chunk(1, lane=1))
    await world.clock.advance(5.0)
    assert sink.connects == 1
    release.set_result(None)
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert sink.connects == 2


async def test_a_sink_that_is_away_at_start_is_waited_for(world: World) -> None:
    """The order in which things are started must not matter."""
    sink = FlakySink(connects=[NotConnectedError("refused"), OSError("no route"), TimeoutError()])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    assert outbox.status().state in ("disconnected", "connecting")
    assert outbox.status().buffered == 1
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert numbers(sink) == [1]


async def test_a_connection_that_hangs_is_given_up(world: World) -> None:
    """A firewall that drops packets must not keep a sink in `connecting` for ever."""
    sink = FlakySink(connects=[hang])
    outbox = await world.open(sink, options(connect_timeout=5))
    await world.put(outbox, chunk(1))
    await world.clock.advance(5.1)
    assert "5 s" in (outbox.status().last_error or "")
    await world.advance_until(lambda: not outbox.counters.buffered)


@pytest.mark.parametrize("where", ["connect", "write"])
async def test_a_configuration_mistake_holds_the_sink_until_a_probe_succeeds(world: World, where: str) -> None:
    """A missing table pauses the sink, keeps the data, gives the reason, and resumes without intervention."""
    held = [HoldError('relation "readings" does not exist', code="42P01")]
    sink = FlakySink(connects=held * 3) if where == "connect" else FlakySink(writes=held, connects=[None, *held, *held])
    outbox = await world.open(sink, options(health={"interval": 15}))
    await world.put(outbox, chunk(1))
    for _ in range(2):
        status = outbox.status()
        assert (status.state, status.reason) == ("held", 'relation "readings" does not exist')
        assert status.buffered == 1
        await world.clock.advance(15.0)
    await world.clock.advance(15.0)
    assert outbox.status().state == "connected"
    assert numbers(sink) == [1]


async def test_one_sink_that_hangs_does_not_delay_another(world: World) -> None:
    """Each sink has tasks of its own."""
    slow, quick = FlakySink(writes=[hang] * 100), MemorySink()
    first = await world.open(slow, name="slow")
    second = await world.open(quick, name="quick")
    same = chunk(1, 2, 3)
    first.put(same)
    await world.put(second, same)
    assert numbers(quick) == [1, 2, 3]
    assert first.status().buffered == 3


async def test_back_off_grows_to_its_limit_and_starts_anew_after_success(world: World) -> None:
    """A server that is down for an hour is asked every half minute at most, and starts anew when it is back."""
    sink = FlakySink(writes=[*[RetryableError("down")] * 20, None, RetryableError("again")])
    outbox = await world.open(sink, options(retry={"initial": "500ms", "max": "30s"}))
    await world.put(outbox, chunk(1))
    start = world.clock.monotonic()
    await world.advance_until(lambda: not outbox.counters.buffered, 10_000)
    assert 15 * 5 < world.clock.monotonic() - start < 20 * 30
    start = world.clock.monotonic()
    await world.put(outbox, chunk(2))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert world.clock.monotonic() - start <= 0.5


@pytest.mark.parametrize("where", ["connect", "write"])
async def test_a_sink_whose_client_library_cancels_its_call_is_retried(world: World, where: str) -> None:
    """Client libraries cancel their futures when a connection breaks. Taken for the end of the task, that would end
    the delivery to the sink until the next start, without a word."""

    def cancelled(_: object) -> asyncio.Future[None]:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        return future

    class Sink(FlakySink):
        async def close(self) -> None:
            await cancelled(None)

    sink = Sink(connects=[cancelled]) if where == "connect" else Sink(writes=[cancelled])
    outbox = await world.open(sink)
    await world.put(outbox, chunk(1))
    await world.advance_until(lambda: not outbox.counters.buffered)
    assert sink.rows == [{"n": 1}]
    await world.delivery.close("s")
