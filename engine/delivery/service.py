"""The delivery to all sinks: opens and closes outboxes, gives access to counters, holds and dead letters."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from random import Random

import structlog

from engine.connector import ConnectorConfig, Sink
from engine.delivery.journal import CommitHold, Journal, SinkLog, StoredLetter
from engine.delivery.outbox import Outbox
from engine.errors import JournalError
from engine.model.metrics import RuleCounters, SinkCounters
from engine.service.clock import Clock, SystemClock

log = structlog.get_logger()

LETTERS_AT_ONCE = 1000
"""Most dead letters that are retried or dropped in one commit. All of their rows are in memory at a time."""


class DeliveryService:
    """Delivers what stands in `journal`, which is opened before and closed after."""

    def __init__(self, journal: Journal, *, clock: Clock | None = None, random: Random | None = None) -> None:
        self.journal = journal
        self._clock = clock or SystemClock()
        self._random = random or Random()
        self._outboxes: dict[str, Outbox] = {}
        self._moving = asyncio.Lock()

    async def start(self) -> None:
        """Follow the journal's state. Sinks are opened one by one."""
        self.journal.on_failing(self._journal_changed)

    async def stop(self, deadline_s: float = 10.0) -> None:
        """Let in-flight writes end within `deadline_s`, close all sinks, write positions and counters."""
        outboxes, self._outboxes = list(self._outboxes.values()), {}
        await asyncio.gather(*(outbox.stop(deadline_s) for outbox in outboxes))
        try:
            await self.journal.flush()
        except JournalError as error:
            log.error("positions and counters could not be stored", reason=str(error))
        self.journal.on_failing(None)

    # Sinks

    async def open(self, sink_id: str, sink: Sink, config: ConnectorConfig) -> Outbox:
        """Deliver to `sink` from now on, its backlog first. Does not wait for the sink to be connected."""
        if sink_id in self._outboxes:
            raise ValueError(f"sink {sink_id!r} is open already")
        outbox = Outbox(sink_id, journal=self.journal, clock=self._clock, random=self._random)
        outbox.start(sink, config)
        self._outboxes[sink_id] = outbox
        return outbox

    async def close(self, sink_id: str, deadline_s: float = 10.0) -> None:
        """End the delivery to a sink. Its waiting records stay in the journal."""
        outbox = self._outboxes.pop(sink_id, None)
        if outbox is not None:
            await outbox.stop(deadline_s)

    async def replace(self, sink_id: str, sink: Sink, config: ConnectorConfig) -> Outbox:
        """Deliver to another sink, or with other options. The outbox and its backlog stay."""
        outbox = self._outboxes[sink_id]
        await outbox.replace(sink, config)
        return outbox

    @property
    def outboxes(self) -> Mapping[str, Outbox]:
        """The open outboxes by sink id."""
        return self._outboxes

    def unconfigured(self) -> Mapping[str, int]:
        """Return the sinks that are not open and have waiting records, with their number."""
        return {
            name: sink.state.counters.buffered
            for name, sink in self.journal.sinks.items()
            if name not in self._outboxes and sink.state.counters.buffered
        }

    # Rules and publishers

    def hold(self) -> CommitHold:
        """Return the hold that is done once everything put so far is on disk."""
        return self.journal.hold()

    def pressure(self) -> CommitHold | None:
        """Return the hold that even publishers without acknowledgements have to wait for, because the disk does not
        keep up; None as long as it does."""
        return self.journal.pressure()

    def rule_counters(self, rule_id: str) -> RuleCounters:
        """Return the counters of a rule. The journal stores them in the commit of the records that they count."""
        return self.journal.rule(rule_id)

    def sink_counters(self, sink_id: str) -> SinkCounters:
        """Return the counters of a sink, open or not; all are zero for one that the journal does not know."""
        sink = self.journal.sinks.get(sink_id)
        return SinkCounters() if sink is None else sink.state.counters

    # Dead letters

    async def dead_letters(self, sink_id: str, limit: int = 100, offset: int = 0) -> list[StoredLetter]:
        """Return dead letters of a sink, oldest first. Raise `KeyError` for a sink that the journal does not know."""
        sink = self._sink(sink_id)
        await self._catch_up()
        return await self.journal.read(lambda store: store.list_letters(sink, limit, offset))

    async def dead_letter(self, sink_id: str, letter_id: int) -> StoredLetter:
        """Return a dead letter. Raise `KeyError` where the sink has no such one."""
        sink = self._sink(sink_id)
        await self._catch_up()
        for letter in await self._read(sink, [letter_id]):
            return letter
        raise KeyError(f"sink {sink_id!r} has no dead letter {letter_id}")

    async def retry_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None = None) -> int:
        """Put dead letters (None: all) into their lanes again, after the records that wait there; return how many.

        They leave the dead letters in the commit that puts them into their lanes. A letter without a record stays: its
        row could not be stored, or its stored form is damaged.
        """
        outbox = self._outboxes[sink_id]
        return await self._move(sink_id, letter_ids, outbox.requeue, lambda letter: letter.record is not None)

    async def drop_dead_letters(self, sink_id: str, letter_ids: Sequence[int] | None = None) -> int:
        """Delete dead letters (None: all); return how many."""
        sink = self._sink(sink_id)
        return await self._move(sink_id, letter_ids, lambda letters: self._discard(sink, letters))

    async def _move(
        self,
        sink_id: str,
        letter_ids: Sequence[int] | None,
        action: Callable[[list[StoredLetter]], CommitHold],
        wanted: Callable[[StoredLetter], bool] = lambda _: True,
    ) -> int:
        """Call `action` with the letters of these ids that are `wanted`, `LETTERS_AT_ONCE` at a time, and wait until
        its effect is on disk."""
        sink = self._sink(sink_id)
        moved = 0
        async with self._moving:
            await self._catch_up()
            ids = await self._ids(sink) if letter_ids is None else list(letter_ids)
            for start in range(0, len(ids), LETTERS_AT_ONCE):
                found = await self._read(sink, ids[start : start + LETTERS_AT_ONCE])
                letters = [letter for letter in found if wanted(letter)]
                if letters:
                    await action(letters).wait()
                    moved += len(letters)
        return moved

    async def _ids(self, sink: SinkLog) -> list[int]:
        return await self.journal.read(lambda store: store.letter_ids(sink))

    async def _read(self, sink: SinkLog, ids: Sequence[int]) -> list[StoredLetter]:
        return await self.journal.read(lambda store: store.read_letters(sink, ids))

    async def _catch_up(self) -> None:
        """Write the dead letters of the open group: reading finds only those on disk."""
        try:
            await self.journal.flush()
        except JournalError as error:
            log.warning("the newest dead letters are not on disk yet", reason=str(error))

    def _discard(self, sink: SinkLog, letters: list[StoredLetter]) -> CommitHold:
        counters = sink.state.counters

        def count(number: int) -> None:
            counters.dead_lettered -= number
            counters.dropped_dead_letters += number

        count(len(letters))
        return self.journal.delete_letters(sink, [letter.id for letter in letters], lambda: count(-len(letters)))

    def _sink(self, sink_id: str) -> SinkLog:
        sink = self.journal.sinks.get(sink_id)
        if sink is None:
            raise KeyError(f"there is no sink {sink_id!r}")
        return sink

    def _journal_changed(self) -> None:
        for outbox in self._outboxes.values():
            outbox.journal_changed()
