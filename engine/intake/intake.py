"""The entry into the engine: runs of messages in, receipts out.

Everything that happens enters by `Intake.take`: the publishes of one read, client events, wills, republished messages.
A run is evaluated as a whole, in three steps:

1. **Evaluate.** Each message meets the rules of its topic. Rows and counts gather in a `_Tally` for each rule, which
   lives in this call alone: an exception here leaves nothing behind.
2. **Put.** The rows that one rule made of the run become one chunk, which is put into the outbox of each of its sinks.
   All chunks of a run join the same group commit, so a publish is in the queues of all its sinks or in no queue.
3. **Count.** The tallies are added to the counters of the rules.

Acknowledgement is decided here as well: the strictest rule of the run decides what is waited for.

A full buffer: a message that its origin sends again (a publish with QoS 1 or 2) is refused as a whole where any of its
sinks refuses, before anything of it is put. All others (QoS 0, wills, events) are dropped for the sinks that refuse,
and counted there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

import structlog
from msgspec import Struct

from broker.hooks import PublishView
from broker.receipt import ACCEPTED, Hold, Receipt, join
from engine.errors import EvaluationError
from engine.intake.active import ActiveRule, ActiveRules, Chunks, Outbox
from engine.language.ruleset import Ruleset
from engine.model.message import ClientIdentity, Message, Occurrence
from engine.model.record import Row

log = structlog.get_logger()

QUOTA_EXCEEDED: Final = 0x97
"""The MQTT 5 reason code of a message that is refused because a buffer is full (MQTT 5, section 2.4)."""


class Run(Struct):
    """Messages of one origin that came together: the publishes of one read, or events about one client."""

    messages: Sequence[PublishView] | Sequence[Occurrence]
    client: ClientIdentity
    time_ms: int
    """When they came, in milliseconds since 1970."""
    trail: tuple[str, ...] = ()
    """The rules whose republishing led here, oldest first."""
    resends: bool = False
    """Whether the origin, once refused, sends everything behind that again (MQTT before 5): then all of it is refused,
    or it would be stored anew each time the client tries."""
    is_event: bool = False
    """Whether the messages are occurrences, which only rules on their event topic select from."""
    is_refusable: bool = False
    """For events: whether their origin sends refused ones again, as a source does. For a publish its QoS decides."""


class _NotTaken:
    """The hold of messages of which some outbox did not take a row: they must not be acknowledged."""

    done = True
    failed = True

    def add_done_callback(self, callback: Callable[[], None], /) -> None:
        callback()


_NOT_TAKEN: Final = _NotTaken()


class _Tally(Struct):
    """The result of one rule on one run."""

    rule: ActiveRule
    rows: list[Row]
    topics: list[str]
    """The topic of each row."""
    refusing: tuple[Outbox, ...]
    """The outboxes that refused when the rule met its first message of the run. Others may become full by
    this run; that concerns the next run."""
    filtered: int = 0
    failed: int = 0
    emitted: int = 0
    refused: int = 0
    error: str | None = None
    row_count: int = 0
    chunks: Chunks = ()
    """The rows as they will be put."""


class Intake:
    """Runs messages through the rules in service. `swap` replaces all rules at once, between two runs.

    `commit` returns the hold of the group commit that is open now; `pressure` returns a hold where the disk is so far
    behind that even those who need not wait should.
    """

    def __init__(self, commit: Callable[[], Hold], pressure: Callable[[], Hold | None] = lambda: None) -> None:
        self._commit = commit
        self._pressure = pressure
        self._rules = ActiveRules(Ruleset(), {})

    @property
    def rules(self) -> Mapping[str, ActiveRule]:
        """The rules in service by id, disabled ones included."""
        return self._rules.all

    def swap(self, ruleset: Ruleset, active: Mapping[str, ActiveRule]) -> None:
        """Serve `ruleset` from now on; `active` has an entry for each of its rules."""
        self._rules = ActiveRules(ruleset, active)

    def listens_to(self, event_topic: str) -> bool:
        """Return whether any rule in service selects from this event."""
        return bool(self._rules.of_event(event_topic))

    def take(self, run: Run) -> Receipt:
        """Take over a run of messages.

        The receipt has a code of 0x80 and up for those that were refused, and the hold that the others wait for.
        """
        tallies: dict[ActiveRule, _Tally] = {}
        codes = self._evaluate_events(run, tallies) if run.is_event else self._evaluate(run, tallies)
        if not tallies:
            return ACCEPTED if codes is None else Receipt(None, codes)
        found = tallies.values()
        has_rows = waits_for_commit = False
        for tally in found:
            rows = tally.rows
            if rows:
                rule = tally.rule
                tally.row_count = len(rows)
                tally.chunks = rule.chunks(run.client, run.time_ms, tally.topics, rows, run.trail)
                has_rows = True
                if rule.waits_for_commit:
                    waits_for_commit = True
        all_taken = _put_and_count(found)
        # The strictest rule decides: ``buffer`` waits until the rows are on disk, ``receive`` for nothing, unless the
        # disk is far behind.
        hold = self._commit() if waits_for_commit else self._pressure() if has_rows else None
        if not all_taken:
            hold = join(_NOT_TAKEN, hold)
        return Receipt(hold, codes)

    def _evaluate(self, run: Run, tallies: dict[ActiveRule, _Tally]) -> bytearray | None:
        """Run publishes through their rules; return their reason codes where any was refused."""
        publishes: Sequence[PublishView] = run.messages  # type: ignore[assignment]  # it is no run of events
        by_topic = self._rules.by_topic
        client, time_ms, trail, resends = run.client, run.time_ms, run.trail, run.resends
        codes: bytearray | None = None
        current: ActiveRule | None = None
        for index, publish in enumerate(publishes):
            topic = publish.topic
            # An MQTT 3 client sends everything behind a refused publish again: stored now, it would be stored twice.
            if codes is not None and resends and publish.qos:
                codes[index] = QUOTA_EXCEEDED
                continue
            # None is a topic not seen yet; an empty tuple is the cached answer that no rule selects from it.
            rules = by_topic.get(topic)
            if rules is None:
                rules = self._rules.of_topic(topic)
            if not rules:
                continue
            message = Message(
                topic, publish.payload, publish.qos, publish.retain, publish.dup, client, time_ms, publish.properties,
                trail, publish.message_id,
            )  # fmt: skip
            rule = rules[0]
            if len(rules) == 1 and not rule.many:
                # The hot path, written out: one rule that makes at most one row. Consecutive publishes mostly meet the
                # same rule, so its tally is looked up only where the rule changes.
                if rule is not current:
                    tally = tallies.get(rule) or _open_tally(rule, tallies)
                    current = rule
                try:
                    row = rule.evaluate(message)
                except Exception as error:
                    _count_failure(tally, error)
                    continue
                if row is None:
                    tally.filtered += 1
                    continue
                if not tally.refusing or not publish.qos or publish.is_will:
                    tally.rows.append(row)
                    tally.topics.append(topic)
                    tally.emitted += 1
                    continue
                tally.refused += 1
            elif _run_several(rules, message, topic, tallies, is_refusable=publish.qos > 0 and not publish.is_will):
                continue
            if codes is None:
                codes = bytearray(len(publishes))
            codes[index] = QUOTA_EXCEEDED
        return codes

    def _evaluate_events(self, run: Run, tallies: dict[ActiveRule, _Tally]) -> bytearray | None:
        """Run occurrences through the rules that select from their topic; return reason codes where any was refused."""
        events: Sequence[Occurrence] = run.messages  # type: ignore[assignment]  # it is a run of events
        codes: bytearray | None = None
        for index, event in enumerate(events):
            rules = self._rules.of_event(event.topic)
            if not rules:
                continue
            column = event.column("topic")
            topic = column if isinstance(column, str) else event.topic
            if not _run_several(rules, event, topic, tallies, is_refusable=run.is_refusable):
                if codes is None:
                    codes = bytearray(len(events))
                codes[index] = QUOTA_EXCEEDED
        return codes


def _open_tally(rule: ActiveRule, tallies: dict[ActiveRule, _Tally]) -> _Tally:
    refusing: tuple[Outbox, ...] = ()
    for outbox in rule.outboxes:
        if outbox.refusing:
            refusing += (outbox,)
    tally = tallies[rule] = _Tally(rule, [], [], refusing)
    return tally


def _run_several(
    rules: tuple[ActiveRule, ...],
    message: Message | Occurrence,
    topic: str,
    tallies: dict[ActiveRule, _Tally],
    *,
    is_refusable: bool,
) -> bool:
    """Run a message through several rules. Return whether it is accepted, which all rules decide together.

    A refused message counts as refused and as nothing else; it is received when its origin sends it again.
    """
    results: list[tuple[_Tally, list[Row] | Exception]] = []
    is_refused = False
    for rule in rules:
        tally = tallies.get(rule) or _open_tally(rule, tallies)
        try:
            rows = rule.run(message)
        except Exception as error:
            results.append((tally, error))
            continue
        results.append((tally, rows))
        if rows and tally.refusing and is_refusable:
            is_refused = True
    for tally, result in results:
        if is_refused:
            tally.refused += 1
        elif isinstance(result, Exception):
            _count_failure(tally, result)
        elif result:
            tally.rows += result
            tally.topics += [topic] * len(result)
            tally.emitted += 1
        else:
            tally.filtered += 1
    return not is_refused


def _count_failure(tally: _Tally, error: Exception) -> None:
    """Count a failed evaluation. An error that is not the message's fault is said once for each rule."""
    tally.failed += 1
    if isinstance(error, EvaluationError):
        tally.error = error.message
        return
    tally.error = f"internal error: {type(error).__name__}"
    rule = tally.rule
    if not rule.has_failed_unexpectedly:
        rule.has_failed_unexpectedly = True
        log.error("rule failed unexpectedly", rule=rule.rule.id, exc_info=error)


def _put_and_count(tallies: Iterable[_Tally]) -> bool:
    """Put the chunks of `tallies` into their outboxes and add to the counters; return whether all rows were taken.

    From the first put to the last count nothing is called but outboxes, and each of these calls is guarded: an
    exception in between would leave records in a journal that no rule has counted.
    """
    failure: Exception | None = None
    all_taken = True
    for tally in tallies:
        counters = tally.rule.counters
        counters.received += tally.filtered + tally.failed + tally.emitted
        if tally.emitted:
            counters.emitted += tally.emitted
            count, refusing = tally.row_count, tally.refusing
            for outboxes, chunk in tally.chunks:
                for outbox in outboxes:
                    try:
                        if refusing and outbox in refusing:
                            outbox.drop(count)
                        elif not outbox.put(chunk):
                            all_taken = False
                            continue
                    except Exception as error:
                        failure = error
                        all_taken = False
                        continue
                    counters.records += count
        if tally.filtered:
            counters.filtered += tally.filtered
        if tally.failed:
            counters.failed += tally.failed
            tally.rule.last_error = tally.error
        if tally.refused:
            counters.refused += tally.refused
    if failure is not None:
        log.error("outbox failed", exc_info=failure)
    return all_taken
