"""The engine's exception tree. Each class is an instruction for its handler.

    HeadgateError
    ├── ConfigError          mistake in a file of the project: correct it (path, line, column)
    ├── RuleError            mistake in a rule: correct it (line, column, remedy)
    ├── EvaluationError      one message failed in one rule: count it, go on
    ├── JournalError         the journal can't be written or read: acknowledge nothing
    └── DeliveryError        a batch or a record was not written to a sink
        ├── NotConnectedError    reconnect, then write the same batch again
        ├── RetryableError       write again after a back-off, or after ``retry_after_s``
        ├── HoldError            the configuration or the server must be changed: pause the sink, keep the data, probe
        ├── SplitError           the batch was refused for an unknown record: bisect
        ├── RejectError          this record can never be written: dead-letter it, go on
        └── DuplicateError       the sink has stored this record before: count it, go on

Any other exception of a sink is *unknown*: the batch is retried a bounded number of times, then bisected.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


class HeadgateError(Exception):
    """Base class of the exceptions that Headgate raises."""


@dataclass(frozen=True, slots=True)
class Position:
    """A place in a text. ``line`` and ``column`` count from 1; ``length`` is the number of characters to underline."""

    line: int
    column: int
    length: int = 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake in a project, as ``headgate check`` reports it: message, place, remedy."""

    message: str
    path: str | None = None
    position: Position | None = None
    remedy: str | None = None
    severity: Literal["error", "warning"] = "error"


class ConfigError(HeadgateError):
    """A mistake in the configuration: file (``path``), place (``position``) and ``remedy`` where they are known."""

    def __init__(
        self, message: str, *, path: str | None = None, position: Position | None = None, remedy: str | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.path = path
        self.position = position
        self.remedy = remedy


class RuleError(HeadgateError):
    """A mistake in a statement. ``position`` counts within the text of the statement."""

    def __init__(self, message: str, position: Position | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position
        self.remedy = remedy


class EvaluationError(HeadgateError):
    """A rule could not be evaluated for one message. ``position`` is the place in the statement, where it is known."""

    def __init__(self, message: str, position: Position | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.position = position


class JournalError(HeadgateError):
    """The journal can't be written or read."""


class DeliveryError(HeadgateError):
    """A batch or a record was not written to a sink. ``code`` is the server's error code."""

    def __init__(self, message: str, *, code: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class NotConnectedError(DeliveryError):
    """The connection is lost: reconnect, then write the same batch again."""


class RetryableError(DeliveryError):
    """A temporary failure: write the batch again. ``retry_after_s`` is the delay in seconds that the server demands."""

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message, code=code)
        self.retry_after_s = retry_after_s


class HoldError(DeliveryError):
    """A failure that lasts until somebody changes the configuration or the server: missing table, wrong password."""


class SplitError(DeliveryError):
    """The batch was refused as a whole, any of its records may be the reason: write it in halves."""


class RejectError(DeliveryError):
    """The record can never be written: it becomes a dead letter with this reason."""


class DuplicateError(DeliveryError):
    """The sink has stored the record before; it counts as delivered."""
