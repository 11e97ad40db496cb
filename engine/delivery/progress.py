"""Progress of one batch, decided without I/O: answers of the sink in, next steps out.

    answer                                the records that it is about are
    ────────────────────────────────────  ─────────────────────────────────────────────────────────────────
    stored, or had it already             settled as delivered
    reject                                settled as a dead letter
    retry, timeout                        sent again after a back-off; a dead letter after ``retry.max_attempts``
    not connected                         sent again once connected
    hold                                  sent again once a probe succeeds
    split                                 sent in halves, at once; alone: a dead letter
    anything else                         sent again ``retry.max_unknown`` times; then like split

- A failure other than a retry that is raised for several records says nothing of any single one: they are sent in
  halves until the record at fault is alone.
- Parts are sent in order, one at a time.
- A record is settled once: as delivered, or as given up.
- A settlement covers all records up to its ``through``: it is held back until every record before it is settled, so
  that the cursor never passes a record that a crash would lose.
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

WriteOutcome = Failures | BaseException
"""The return value of `Sink.write`, or the exception that it raised."""


class Action(Enum):
    """The step to take before the next part is sent."""

    GO_ON = "go on"
    BACK_OFF = "back off"
    RECONNECT = "reconnect"
    HOLD = "hold"


@dataclass(frozen=True, slots=True)
class GivenUpRecord:
    """A record that becomes a dead letter."""

    record: Record
    error: BaseException
    attempts: int
    first_error_ms: int


@dataclass(slots=True)
class Settlement:
    """Records that need no further attempt. All records up to ``through`` are settled with these."""

    through: int = 0
    delivered: int = 0
    deduplicated: int = 0
    given_up: list[GivenUpRecord] = field(default_factory=list)

    @property
    def rows(self) -> int:
        return self.delivered + len(self.given_up)


@dataclass(frozen=True, slots=True)
class Step:
    """The consequence of an answer."""

    action: Action
    error: BaseException | None = None
    settled: Settlement | None = None


@dataclass(slots=True)
class BatchPart:
    """Records that are sent together. ``through`` is None where records before its last one are in later parts."""

    batch: Batch
    through: int | None
    whole: bool = True
    """Whether it has all records of its range of numbers."""
    attempts: int = 0
    retries: int = 0
    unknown: int = 0
    first_error_ms: int = 0


class BatchProgress:
    """The records of one batch that are not settled yet, in parts."""

    def __init__(self, batch: Batch, retry: RetryConfig) -> None:
        self._retry = retry
        self._parts = deque([BatchPart(batch, batch.seqs[-1])])
        self._settled = Settlement()

    @property
    def part(self) -> BatchPart | None:
        """The part to send next; None once everything is settled."""
        return self._parts[0] if self._parts else None

    def answer(self, outcome: WriteOutcome, now_ms: int) -> Step:
        """Take the sink's answer about `part`, and return what follows."""
        part = self._parts[0]
        if isinstance(outcome, Failures) and not outcome:
            self._settled.delivered += len(part.batch)
            return self._finish(part)
        part.attempts += 1
        part.first_error_ms = part.first_error_ms or now_ms
        return self._partly(part, outcome) if isinstance(outcome, Failures) else self._failed(part, outcome)

    def _partly(self, part: BatchPart, failures: Failures) -> Step:
        again: list[int] = []
        batch = part.batch
        errors = {index: failures[index] for index in range(len(batch)) if index in failures}
        self._settled.delivered += len(batch) - len(errors)
        for index, error in errors.items():
            if isinstance(error, DuplicateError):
                self._duplicate(1)
            elif isinstance(error, RejectError):
                self._give_up_record(part, batch.records[index], error)
            else:
                again.append(index)
        if not again:
            return self._finish(part)
        if len(again) < len(batch):
            part.batch = batch.pick(again)
            part.whole = False
        return self._failed(part, min((errors[index] for index in again), key=_urgency))

    def _failed(self, part: BatchPart, error: BaseException) -> Step:
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

    def _isolate(self, part: BatchPart, error: BaseException) -> Step:
        """Divide the part into halves, or settle the record that is alone in it."""
        batch = part.batch
        if len(batch) > 1:
            middle = len(batch) // 2
            first = BatchPart(batch.part(0, middle), batch.seqs[middle - 1] if part.whole else None, part.whole)
            second = BatchPart(batch.part(middle, len(batch)), part.through, part.whole)
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

    def _give_up(self, part: BatchPart, error: BaseException) -> Step:
        for record in part.batch.records:
            self._give_up_record(part, record, error)
        return self._finish(part, error)

    def _finish(self, part: BatchPart, error: BaseException | None = None) -> Step:
        self._parts.popleft()
        if part.through is None:
            return Step(Action.GO_ON, error)
        settled, self._settled = self._settled, Settlement()
        settled.through = part.through
        return Step(Action.GO_ON, error, settled)

    def _duplicate(self, count: int) -> None:
        self._settled.delivered += count
        self._settled.deduplicated += count

    def _give_up_record(self, part: BatchPart, record: Record, error: BaseException) -> None:
        self._settled.given_up.append(GivenUpRecord(record, error, part.attempts, part.first_error_ms))


def _urgency(error: BaseException) -> int:
    """Return the rank of `error`: of several errors in one answer the one with the lowest rank decides."""
    for rank, kind in enumerate((HoldError, NotConnectedError, RetryableError, SplitError)):
        if isinstance(error, kind):
            return rank
    return 4


def class_of(error: BaseException) -> str:
    """Return the name of the class of `error`, as it is stored and shown."""
    for kind, word in _CLASSES.items():
        if isinstance(error, kind):
            return word
    return "unknown"


def code_of(error: BaseException) -> str | None:
    """Return the server's own code, where there is one."""
    return error.code if isinstance(error, DeliveryError) else None


def text_of(error: BaseException) -> str:
    """Return the reason without secrets: the message of a sink's error, or name and text of another exception."""
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
