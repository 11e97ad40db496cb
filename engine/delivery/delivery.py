"""The delivery of all sinks: opens and closes outboxes, hands out counters and tickets, looks after dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from random import Random

import structlog

from engine.connector import ConnectorConfig, Sink
from engine.delivery.journal import Journal, SinkLog, Ticket
from engine.delivery.letter import StoredLetter, list_ids, list_letters, read_letters
from engine.delivery.outbox import Outbox
from engine.errors import JournalError
from engine.model.metrics import RuleCounters, SinkCounters
from engine.service.clock import Clock, SystemClock

log = structlog.get_logger()

LETTERS_AT_ONCE = 1000
"""How many dead letters are moved in one commit."""


class Delivery:
    """Stands on a journal that is open; the journal is closed after it."""

    def __init__(self, journal: Journal, *, clock: Clock | None = None, random: Random | None = None) -> None:
        self.journal = journal
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._outboxes: dict[str, Outbox] = {}
        self._moving = asyncio.Lock()

    async def start(self) -> None:
        """Begin to follow the journal's state. Sinks are opened one by one."""
        self.journal.on_failing = self._journal_changed

    async def stop(self, deadline_s: float = 10.0) -> None:
        """Let in-flight writes end within `deadline_s`, close all sinks, write positions and counters."""
        outboxes, self._outboxes = list(self._outboxes.values()), {}
        await asyncio.gather(*(outbox.stop(deadline_s) for outbox in outboxes))
        try:
            await self.journal.flush()
        except JournalError as error:
            log.error("positions and counters could not be stored", reason=str(error))
        self.journal.on_failing = None

    # Sinks

    async def open(self, sink_id: str, sink: Sink, config: ConnectorConfig) -> Outbox:
        """Deliver to `sink` from now on, its backlog first. Does not wait for the sink, and so can't fail for it."""
        if sink_id in self._outboxes:
            raise ValueError(f"sink {sink_id!r} is open already")
        outbox = Outbox(sink_id, journal=self.journal, clock=self._clock, random=self._random)
        outbox.start(sink, config)
        self._outboxes[sink_id] = outbox
        return outbox

    async def close(self, sink_id: str, deadline_s: float = 10.0) -> None:
        """Deliver no longer; what waits stays in the journal."""
        outbox = self._outboxes.pop(sink_id, None)
        if outbox is not None:
            await outbox.stop(deadline_s)

    async def replace(self, sink_id: str, sink: Sink, config: ConnectorConfig) -> Outbox:
        """Deliver to another sink, or with other options; the outbox stays the same, and so does its backlog."""
        outbox = self._outboxes[sink_id]
        await outbox.replace(sink, config)
        return outbox

    @property
    def outboxes(self) -> Mapping[str, Outbox]:
        """The outboxes that are open, by sink."""
        return self._outboxes

    def unconfigured(self) -> Mapping[str, int]:
        """Sinks that are not open but have records in the journal, with how many wait."""
        return {
            name: sink.state.counters.buffered
            for name, sink in self.journal.sinks.items()
            if name not in self._outboxes and sink.state.counters.buffered
        }

    # Rules and publishers

    def ticket(self) -> Ticket:
        """Done once everything put so far is on disk."""
        return self.journal.ticket()

    def pressure(self) -> Ticket | None:
        """What those who need not wait should wait for all the same, because the disk does not keep up."""
        return self.journal.pressure()

    def rule_counters(self, rule_id: str) -> RuleCounters:
        """The counters of a rule, as they were left; the journal stores them with the records they count."""
        return self.journal.rule(rule_id)

    def sink_counters(self, sink_id: str) -> SinkCounters:
        """What became of the records of a sink, also of one that is not open; all zero where there never were any."""
        sink = self.journal.sinks.get(sink_id)
        return SinkCounters() if sink is None else sink.state.counters

    # Dead letters

    async def dead_letters(self, sink_id: str, limit: int = 100, offset: int = 0) -> list[StoredLetter]:
        """What was given up for a sink, oldest first. Raises `KeyError` for a sink the journal does not know."""
        sink = self._sink(sink_id)
        await self._catch_up()
        return await self.journal.query(lambda db: list_letters(db, sink, limit, offset))

    async def dead_letter(self, sink_id: str, letter_id: int) -> StoredLetter:
        """One of them. Raises `KeyError` where there is none of that id."""
        sink = self._sink(sink_id)
        await self._catch_up()
        for letter in await self.journal.query(lambda db: read_letters(db, sink, [letter_id])):
            return letter
        raise KeyError(f"sink {sink_id!r} has no dead letter {letter_id}")

    async def retry_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None = None) -> int:
        """Send dead letters (None: all) again, behind what waits in their lanes; answers how many.

        They leave the dead letters in the very commit that puts them into their lanes. One whose row could not be
        stored, or is damaged, stays: there is nothing to send.
        """
        outbox = self._outboxes[sink_id]
        return await self._move(sink_id, letter_ids, outbox.revive, lambda letter: letter.record is not None)

    async def drop_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None = None) -> int:
        """Delete dead letters (None: all) for good; answers how many."""
        sink = self._sink(sink_id)
        return await self._move(sink_id, letter_ids, lambda letters: self._discard(sink, letters))

    async def _move(
        self,
        sink_id: str,
        letter_ids: Sequence[int] | None,
        action: Callable[[list[StoredLetter]], Ticket],
        wanted: Callable[[StoredLetter], bool] = lambda _: True,
    ) -> int:
        """Do `action` with the letters of these ids, some at a time, each time waiting until it is on disk."""
        sink = self._sink(sink_id)
        moved = 0
        async with self._moving:
            await self._catch_up()
            ids = await self.journal.query(lambda db: list_ids(db, sink)) if letter_ids is None else list(letter_ids)
            for start in range(0, len(ids), LETTERS_AT_ONCE):
                some = ids[start : start + LETTERS_AT_ONCE]
                found = await self.journal.query(partial(read_letters, sink=sink, ids=some))
                letters = [letter for letter in found if wanted(letter)]
                if letters:
                    await action(letters).wait()
                    moved += len(letters)
        return moved

    async def _catch_up(self) -> None:
        """Have what was given up until now on disk, where it is looked for."""
        try:
            await self.journal.flush()
        except JournalError as error:
            log.warning("the newest dead letters are not on disk yet", reason=str(error))

    def _discard(self, sink: SinkLog, letters: list[StoredLetter]) -> Ticket:
        counters = sink.state.counters

        def count(number: int) -> None:
            counters.dead_lettered -= number
            counters.dropped_dead_letters += number

        count(len(letters))
        return self.journal.forget(sink, [letter.id for letter in letters], lambda: count(-len(letters)))

    def _sink(self, sink_id: str) -> SinkLog:
        sink = self.journal.sinks.get(sink_id)
        if sink is None:
            raise KeyError(f"there is no sink {sink_id!r}")
        return sink

    def _journal_changed(self) -> None:
        for outbox in self._outboxes.values():
            outbox.journal_changed()
