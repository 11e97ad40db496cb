"""The engine's exception tree: each branch says what to do next.

    HeadgateError
    ├── ConfigError          a file of the project is wrong: fix it (path, line, column)
    ├── RuleError            a rule is wrong: fix it (file, line, column, remedy)
    ├── EvaluationError      one message failed in one rule: counted there, nothing else stops
    ├── JournalError         the journal cannot write or read: nothing is acknowledged
    └── DeliveryError        a sink could not take a batch or a record
        ├── NotConnectedError    reconnect, then try again
        ├── RetryableError       try again after a back-off, or after ``retry_after_s``
        ├── HoldError            a person or a configuration change is needed: pause, keep, probe
        ├── SplitError           the batch is at fault, the record is unknown: bisect
        ├── RejectError          this record can never succeed: dead letter, go on
        └── DuplicateError       the sink has this record already: count it, go on

Anything a sink raises that is not a `DeliveryError` is *unknown*: retried with a bound, then bisected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class HeadgateError(Exception):
    """Everything Headgate raises on purpose."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text: ``line`` and ``column`` count from 1; ``length`` is what a caret line underlines."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing wrong with a project, as ``headgate check`` reports it: where, what, and what to do about it."""

    message: str
    path: str | None = None
    position: Position | None = None
    remedy: str | None = None
    severity: Literal["error", "warning"] = "error"


class ConfigError(HeadgateError):
    """A configuration file is wrong: ``path`` names it, ``position`` the place, ``remedy`` what to do."""

    def __init__(
        self, message: str, *, path: str | None = None, position: Position | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.position = position
        self.remedy = remedy


class RuleError(HeadgateError):
    """A statement is wrong: ``position`` counts within the statement's text, ``remedy`` says what to do."""

    def __init__(self, message: str, position: Position | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.remedy = remedy


class EvaluationError(HeadgateError):
    """A rule could not be evaluated for one message; ``position`` is the place in the statement where known."""

    def __init__(self, message: str, position: Position | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class JournalError(HeadgateError):
    """The journal could not be written or read."""


class DeliveryError(HeadgateError):
    """A sink could not take a batch or a record. ``code`` is the server's own code, for people and for counts."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class NotConnectedError(DeliveryError):
    """There is no connection: connect again, then send the same batch."""


class RetryableError(DeliveryError):
    """The sink can't take the batch now; ``retry_after_s`` is what the server asked for, in seconds."""

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class HoldError(DeliveryError):
    """Nothing will work until somebody changes something: missing table, wrong password."""


class SplitError(DeliveryError):
    """The batch was refused as a whole and any record of it may be why: send it in halves."""


class RejectError(DeliveryError):
    """The record can never be stored: it becomes a dead letter with this reason."""


class DuplicateError(DeliveryError):
    """The sink has the record already; it counts as delivered."""
