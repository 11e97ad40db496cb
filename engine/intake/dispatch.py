"""Message to matching rules to outboxes: what happens to the publishes of one read, in one pass.

The rules of a topic name are looked up once and cached. The rows that one rule makes of one read become one chunk,
which goes to every sink of the rule; all chunks of a read stand in the same group commit, so that a publish is in
the journal of all its sinks or of none.

What a full buffer means is decided here: a publish with QoS 1 or 2 that any of its sinks would refuse is refused as a
whole, before anything of it is put anywhere; a publish with QoS 0, a will and an event have nobody to tell, so they are
dropped for the sinks that refuse and counted there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from engine.errors import EvaluationError
from engine.language.ruleset import Rule, Ruleset
from engine.model.message import ClientIdentity, Message, Occurrence
from engine.model.record import Chunk, Row

TOPICS_CACHED = 100_000
"""Topic names whose rules are remembered; when there are more the memory starts anew."""

QUOTA_EXCEEDED = 0x97
"""The MQTT 5 reason code of a refused publish (MQTT 5, section 2.4)."""


class Outbox(Protocol):
    """What dispatch needs of a sink's outbox; see `engine.delivery`."""

    @property
    def refusing(self) -> bool: ...
    def put(self, chunk: Chunk) -> bool: ...
    def drop(self, count: int) -> None: ...


class Counters(Protocol):
    """What dispatch counts per rule; see `engine.model.metrics.RuleCounters`."""

    received: int
    filtered: int
    failed: int
    emitted: int
    refused: int
    records: int


class Ticket(Protocol):
    """Done when the open group commit is on disk; see `engine.delivery.journal`."""

    @property
    def done(self) -> bool: ...
    @property
    def failed(self) -> bool: ...
    def add_done_callback(self, callback: Callable[[], None], /) -> None: ...


class Incoming(Protocol):
    """What dispatch reads of a publish."""

    @property
    def topic(self) -> str: ...
    @property
    def payload(self) -> bytes: ...
    @property
    def qos(self) -> int: ...
    @property
    def retain(self) -> bool: ...
    @property
    def dup(self) -> bool: ...
    @property
    def properties(self) -> Mapping[str, Any] | None: ...
    @property
    def message_id(self) -> str | None: ...
    @property
    def is_will(self) -> bool: ...


@dataclass(slots=True)
class Outcome:
    """What became of a read: what to wait for before acknowledging, and which publishes are refused with what code."""

    ticket: Ticket | None = None
    refused: dict[int, int] | None = None


class Route:
    """A rule in service: its outboxes, its counters, and the rows of the read at hand."""

    __slots__ = (
        "_plain", "_renamed", "counters", "evaluate", "last_error", "many", "needs_ticket", "outboxes", "rows", "rule",
        "topics",
    )  # fmt: skip

    def __init__(self, rule: Rule, outboxes: Mapping[str, Outbox], counters: Counters) -> None:
        """`outboxes` by sink id; a sink the rule names and that is not there is disabled and gets nothing."""
        self.rule = rule
        self.evaluate = rule.compiled.evaluate
        self.many = rule.compiled.many
        self.counters = counters
        targets = [target for target in rule.sinks if target.name in outboxes]
        self.outboxes = tuple(outboxes[target.name] for target in targets)
        self.needs_ticket = rule.ack == "buffer" and bool(self.outboxes)
        self.rows: list[Row] = []
        self.topics: list[str] = []
        self.last_error: str | None = None
        self._plain = tuple(outboxes[target.name] for target in targets if target.columns is None)
        self._renamed = tuple((t.columns, outboxes[t.name]) for t in targets if t.columns is not None)

    def run(self, message: Message | Occurrence) -> list[Row] | None:
        """The rows the rule makes of `message`; None where it failed. Counts nothing yet."""
        try:
            result: Any = self.evaluate(message)
        except EvaluationError as error:
            self.last_error = error.message
            return None
        if result is None:
            return []
        return cast(list[Row], result) if self.many else [result]

    def count(self, rows: list[Row] | None) -> None:
        """Count one message of which `run` made `rows`."""
        counters = self.counters
        counters.received += 1
        if rows is None:
            counters.failed += 1
        elif rows:
            counters.emitted += 1
        else:
            counters.filtered += 1

    def is_refusing(self) -> bool:
        """Whether any sink of the rule is full."""
        return any(outbox.refusing for outbox in self.outboxes)

    def add(self, topic: str, rows: list[Row]) -> None:
        """Take `rows` into the chunk of this read."""
        self.rows += rows
        self.topics += [topic] * len(rows)

    def flush(self, client: ClientIdentity, time_ms: int, trail: tuple[str, ...]) -> None:
        """Put the rows of this read to the outboxes as one chunk, where there are any left."""
        rows, topics = self.rows, self.topics
        if not rows:
            return
        self.rows, self.topics = [], []
        self.counters.records += len(rows) * len(self.outboxes)
        self._put(self._plain, self._renamed, rows, topics, client, time_ms, trail)

    def put_past_full(
        self, rows: list[Row], topic: str, client: ClientIdentity, time_ms: int, trail: tuple[str, ...]
    ) -> None:
        """Put `rows` to the outboxes that take them and drop them, counted, for those that are full."""
        self.counters.records += len(rows) * len(self.outboxes)
        for outbox in self.outboxes:
            if outbox.refusing:
                outbox.drop(len(rows))
        plain = tuple(outbox for outbox in self._plain if not outbox.refusing)
        renamed = tuple((columns, outbox) for columns, outbox in self._renamed if not outbox.refusing)
        self._put(plain, renamed, rows, [topic] * len(rows), client, time_ms, trail)

    def _put(
        self,
        plain: tuple[Outbox, ...],
        renamed: tuple[tuple[tuple[str, ...], Outbox], ...],
        rows: list[Row],
        topics: list[str],
        client: ClientIdentity,
        time_ms: int,
        trail: tuple[str, ...],
    ) -> None:
        where: list[str] | str = topics[0] if topics.count(topics[0]) == len(topics) else topics
        rule_id = self.rule.id
        if plain:
            chunk = Chunk(rule_id, client.clientid, client.lane_hash, time_ms, where, rows, trail)
            for outbox in plain:
                outbox.put(chunk)
        for columns, outbox in renamed:
            named = [dict(zip(columns, row.values(), strict=False)) for row in rows]
            outbox.put(Chunk(rule_id, client.clientid, client.lane_hash, time_ms, where, named, trail))


class Dispatcher:
    """Runs the rules in service. `swap` replaces them all at once, between two reads."""

    def __init__(self, ticket: Callable[[], Ticket], pressure: Callable[[], Ticket | None] = lambda: None) -> None:
        """`ticket` answers that of the group commit which is open now; `pressure` the same where the disk is behind."""
        self._ticket = ticket
        self._pressure = pressure
        self._ruleset = Ruleset()
        self._routes: dict[str, Route] = {}
        self._by_topic: dict[str, tuple[Route, ...]] = {}
        self._by_event: dict[str, tuple[Route, ...]] = {}

    @property
    def routes(self) -> Mapping[str, Route]:
        """The rules in service by id, disabled ones included."""
        return self._routes

    def swap(self, ruleset: Ruleset, routes: Mapping[str, Route]) -> None:
        """Serve `ruleset` from now on; `routes` has one route per rule."""
        self._ruleset = ruleset
        self._routes = dict(routes)
        self._by_topic = {}
        self._by_event = {}

    def listens_to(self, event_topic: str) -> bool:
        """Whether any rule in service selects from this event."""
        return bool(self._routes_of_event(event_topic))

    def publishes(
        self,
        client: ClientIdentity,
        publishes: Sequence[Incoming],
        now_ms: int,
        trail: tuple[str, ...] = (),
        sends_again: bool = False,
    ) -> Outcome | None:
        """Run the publishes of one read through their rules; None where nothing is to be waited for or refused.

        `sends_again` says that the client, once refused, sends everything behind that again too (MQTT 3): so all of it
        is refused, or it would be stored anew each time the client tries.
        """
        by_topic = self._by_topic
        touched: list[Route] = []
        refused: dict[int, int] | None = None
        for index, publish in enumerate(publishes):
            topic = publish.topic
            routes = by_topic.get(topic)
            if routes is None:
                routes = self._routes_of_topic(topic)
            if not routes:
                continue
            message = Message(
                topic, publish.payload, publish.qos, publish.retain, publish.dup, client, now_ms, publish.properties,
                trail, publish.message_id,
            )  # fmt: skip
            if len(routes) > 1 or routes[0].many:
                if not self._run_several(routes, message, publish, touched):
                    refused = refused or {}
                    refused[index] = QUOTA_EXCEEDED
                    if sends_again:
                        break
                continue
            # The common case, one rule that makes at most one row, is written out: it is the hot path.
            route = routes[0]
            counters = route.counters
            counters.received += 1
            try:
                row = route.evaluate(message)
            except EvaluationError as error:
                counters.failed += 1
                route.last_error = error.message
                continue
            if row is None:
                counters.filtered += 1
                continue
            rows = route.rows
            if not rows:
                if route.is_refusing():
                    counters.received -= 1
                    if not self._run_full(routes, [[row]], message, publish, touched):
                        refused = refused or {}
                        refused[index] = QUOTA_EXCEEDED
                        if sends_again:
                            break
                    continue
                touched.append(route)
            counters.emitted += 1
            rows.append(row)
            route.topics.append(topic)
        if refused is None and not touched:
            return None
        needs_ticket = False
        for route in touched:
            route.flush(client, now_ms, trail)
            needs_ticket = needs_ticket or route.needs_ticket
        if refused is not None and sends_again:
            (first,) = refused
            rest = range(first + 1, len(publishes))
            refused.update((index, QUOTA_EXCEEDED) for index in rest if publishes[index].qos)
            # Nobody sends these again.
            self.publishes(client, [publishes[index] for index in rest if not publishes[index].qos], now_ms, trail)
        ticket = self._ticket() if needs_ticket else self._pressure()
        return None if ticket is None and refused is None else Outcome(ticket, refused)

    def occurrence(self, event: Occurrence) -> None:
        """Run a client event, or anything else that is no publish, through the rules that select from its topic."""
        for route in self._routes_of_event(event.topic):
            rows = route.run(event)
            route.count(rows)
            if rows:
                topic = event.column("topic")
                where = topic if isinstance(topic, str) else event.topic
                route.put_past_full(rows, where, event.client, event.timestamp, event.trail)

    def _run_several(
        self, routes: tuple[Route, ...], message: Message, publish: Incoming, touched: list[Route]
    ) -> bool:
        """Whether the publish is accepted: by all of its rules or by none."""
        results = [route.run(message) for route in routes]
        if any(rows and route.is_refusing() for route, rows in zip(routes, results, strict=True)):
            return self._run_full(routes, results, message, publish, touched)
        for route, rows in zip(routes, results, strict=True):
            route.count(rows)
            if rows:
                if not route.rows:
                    touched.append(route)
                route.add(message.topic, rows)
        return True

    def _run_full(
        self,
        routes: tuple[Route, ...],
        results: Sequence[list[Row] | None],
        message: Message,
        publish: Incoming,
        touched: list[Route],
    ) -> bool:
        """A publish of which some sink is full: whether it is accepted all the same.

        A refused one counts as refused and as nothing else; it is received when the client sends it again.
        """
        if publish.qos and not publish.is_will:
            for route in routes:
                route.counters.refused += 1
            return False
        for route, rows in zip(routes, results, strict=True):
            route.count(rows)
            if rows:
                # It stays among the touched: what came before in this read may be what an acknowledgement waits for.
                if route.rows:
                    route.flush(message.client, message.timestamp, message.trail)
                route.put_past_full(rows, message.topic, message.client, message.timestamp, message.trail)
        return True

    def _routes_of_topic(self, topic: str) -> tuple[Route, ...]:
        if len(self._by_topic) >= TOPICS_CACHED:
            self._by_topic.clear()
        routes = tuple(self._routes[rule.id] for rule in self._ruleset.for_topic(topic))
        self._by_topic[topic] = routes
        return routes

    def _routes_of_event(self, event_topic: str) -> tuple[Route, ...]:
        routes = self._by_event.get(event_topic)
        if routes is None:
            routes = tuple(self._routes[rule.id] for rule in self._ruleset.for_event(event_topic))
            self._by_event[event_topic] = routes
        return routes
