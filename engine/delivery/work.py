"""What becomes of a batch, decided without I/O: the answer of a sink in, the next step out.

    answer                                what happens to the records it is about
    ────────────────────────────────────  ─────────────────────────────────────────────────────────────────
    stored, or had it already             settled as delivered
    reject                                settled as a dead letter
    retry, timeout                        sent again after a back-off; a dead letter after ``retry.max_attempts``
    not connected                         sent again once connected
    hold                                  sent again once a probe succeeds
    split                                 sent in halves, at once; alone: a dead letter
    anything else                         sent again ``retry.max_unknown`` times; then like split

A failure that is no retry and is raised for several records at once says nothing of any single one, so they are
sent in halves until the one at fault is alone. Parts are sent in order, one at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum

from engine.connector import Failures, RetryConfig
from engine.errors import (
    DeliveryError,
    DuplicateError,
    HoldError,
    NotConnectedError,
    RejectError,
    RetryableError,
    SplitError,
)
from engine.model.record import Batch, Record
from engine.service.log import redact

Outcome = Failures | BaseException
"""What `Sink.write` returned or raised."""


class Action(Enum):
    """What to do before the next part is sent."""

    GO_ON = "go on"
    BACK_OFF = "back off"
    RECONNECT = "reconnect"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that is given up, and why."""

    record: Record
    error: BaseException
    attempts: int
    first_error_ms: int


@dataclass(slots=True)
class Settled:
    """Records that need no further attempt. All up to ``through`` are settled with this."""

    through: int = 0
    delivered: int = 0
    deduplicated: int = 0
    letters: list[DeadLetter] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.delivered + len(self.letters)


@dataclass(frozen=True, slots=True)
class Step:
    """What follows from an answer."""

    action: Action
    error: BaseException | None = None
    settled: Settled | None = None


@dataclass(slots=True)
class Part:
    """Records that are sent together. ``through`` is None where records before its last one are in other parts."""

    batch: Batch
    through: int | None
    whole: bool = True
    """Whether no record of its range has been settled on its own."""
    attempts: int = 0
    retries: int = 0
    unknown: int = 0
    first_error_ms: int = 0


class Work:
    """What is left to do of one batch."""

    def __init__(self, batch: Batch, retry: RetryConfig) -> None:
        self._retry = retry
        self._parts = deque([Part(batch, batch.seqs[-1])])
        self._settled = Settled()

    @property
    def part(self) -> Part | None:
        """What is to be sent next; None once all is settled."""
        return self._parts[0] if self._parts else None

    def answer(self, outcome: Outcome, now_ms: int) -> Step:
        """Take the sink's answer about `part`."""
        part = self._parts[0]
        if isinstance(outcome, Failures) and not outcome:
            self._settled.delivered += len(part.batch)
            return self._finish(part)
        part.attempts += 1
        part.first_error_ms = part.first_error_ms or now_ms
        return self._partly(part, outcome) if isinstance(outcome, Failures) else self._failed(part, outcome)

    def _partly(self, part: Part, failures: Failures) -> Step:
        again: list[int] = []
        batch = part.batch
        errors = {index: failures[index] for index in range(len(batch)) if index in failures}
        self._settled.delivered += len(batch) - len(errors)
        for index, error in errors.items():
            if isinstance(error, DuplicateError):
                self._duplicate(1)
            elif isinstance(error, RejectError):
                self._bury(part, batch.records[index], error)
            else:
                again.append(index)
        if not again:
            return self._finish(part)
        if len(again) < len(batch):
            part.batch = batch.pick(again)
            part.whole = False
        return self._failed(part, min((errors[index] for index in again), key=_urgency))

    def _failed(self, part: Part, error: BaseException) -> Step:
        match error:
            case HoldError():
                return Step(Action.HOLD, error)
            case NotConnectedError() | ConnectionError():
                return Step(Action.RECONNECT, error)
            case RetryableError() | TimeoutError():
                part.retries += 1
                if 0 < self._retry.max_attempts <= part.retries:
                    return self._give_up(part, error)
                return Step(Action.BACK_OFF, error)
            case SplitError() | RejectError() | DuplicateError():
                return self._isolate(part, error)
        part.unknown += 1
        if part.unknown < self._retry.max_unknown:
            return Step(Action.BACK_OFF, error)
        return self._isolate(part, error)

    def _isolate(self, part: Part, error: BaseException) -> Step:
        """Send the part in halves, or settle the record that is left alone."""
        batch = part.batch
        if len(batch) > 1:
            middle = len(batch) // 2
            first = Part(batch.part(0, middle), batch.seqs[middle - 1] if part.whole else None, part.whole)
            second = Part(batch.part(middle, len(batch)), part.through, part.whole)
            for half in (first, second):
                half.attempts, half.first_error_ms = part.attempts, part.first_error_ms
                half.retries, half.unknown = part.retries, part.unknown
            self._parts.popleft()
            self._parts.extendleft((second, first))
            return Step(Action.GO_ON, error)
        if isinstance(error, DuplicateError):
            self._duplicate(1)
            return self._finish(part, error)
        return self._give_up(part, error)

    def _give_up(self, part: Part, error: BaseException) -> Step:
        for record in part.batch.records:
            self._bury(part, record, error)
        return self._finish(part, error)

    def _finish(self, part: Part, error: BaseException | None = None) -> Step:
        self._parts.popleft()
        if part.through is None:
            return Step(Action.GO_ON, error)
        settled, self._settled = self._settled, Settled()
        settled.through = part.through
        return Step(Action.GO_ON, error, settled)

    def _duplicate(self, count: int) -> None:
        self._settled.delivered += count
        self._settled.deduplicated += count

    def _bury(self, part: Part, record: Record, error: BaseException) -> None:
        self._settled.letters.append(DeadLetter(record, error, part.attempts, part.first_error_ms))


def _urgency(error: BaseException) -> int:
    """Of several reasons in one answer the most far-reaching decides."""
    for rank, kind in enumerate((HoldError, NotConnectedError, RetryableError, SplitError)):
        if isinstance(error, kind):
            return rank
    return 4


def class_of(error: BaseException) -> str:
    """The class of connectors' errors that `error` belongs to, in one word."""
    for kind, word in _CLASSES.items():
        if isinstance(error, kind):
            return word
    return "unknown"


def code_of(error: BaseException) -> str | None:
    """The server's own code, where there is one."""
    return error.code if isinstance(error, DeliveryError) else None


def text_of(error: BaseException) -> str:
    """The reason in words, without secrets: what the sink said, or the exception's name and text."""
    if isinstance(error, DeliveryError):
        return redact(error.message)
    text = str(error)
    return redact(f"{type(error).__name__}: {text}") if text else type(error).__name__


_CLASSES: Mapping[type[BaseException], str] = {
    HoldError: "hold",
    NotConnectedError: "not_connected",
    ConnectionError: "not_connected",
    RetryableError: "retry",
    TimeoutError: "retry",
    SplitError: "split",
    RejectError: "reject",
    DuplicateError: "duplicate",
}
