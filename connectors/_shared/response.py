"""HTTP responses, and the class that each status belongs to: success, retry, hold or reject.

A rejected request of several records is to be split until the record at fault is alone.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from engine.errors import ConfigError, DeliveryError, HoldError, RejectError, RetryableError, SplitError

REASON_CHARACTERS = 200
"""Characters of a response that a reason quotes: a line or two of a terminal."""

RETRY_AFTER_MAX_S = 3600.0
"""Longest pause that a server can ask for: a wrong date must not stop a sink for a year."""

StatusClass = Literal["success", "retry", "hold", "reject"]


def _status_text(value: Any) -> Any:
    return str(value) if isinstance(value, int) else value


StatusPattern = Annotated[str, BeforeValidator(_status_text), Field(pattern=r"^[1-5](\d\d|\dx|xx)$")]
"""A status, or a range of them: ``204``, ``52x``, ``5xx``."""


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """The response to one request, with the beginning of its body."""

    host: str
    status: int
    reason: str
    headers: Mapping[str, str]
    body: bytes
    cut: DeliveryError | None = None
    """The error that ended the body before it was complete."""

    def retry_after_s(self, now_ms: int) -> float | None:
        """Return the pause that the header Retry-After asks for, in seconds or as a date (RFC 9110, 10.2.3)."""
        text = self.headers.get("Retry-After", "").strip()
        if text.isascii() and text.isdecimal():
            return min(float(text), RETRY_AFTER_MAX_S)
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = date.replace(tzinfo=date.tzinfo or UTC).timestamp() - now_ms / 1000
        return min(max(seconds, 0.0), RETRY_AFTER_MAX_S)

    def described(self) -> str:
        """Return the status and the beginning of the body in one line, for a reason."""
        status = one_line(f"{self.status} {self.reason}")[:REASON_CHARACTERS]
        text = one_line(self.body.decode(errors="replace"))[:REASON_CHARACTERS]
        return f"{self.host} answered {status}{': ' if text else ''}{text}"


class StatusClasses:
    """The class of each status, and the error that follows from it."""

    def __init__(self, classes: Mapping[int, StatusClass], *, respect_retry_after: bool = True) -> None:
        self._classes = classes
        self._respect_retry_after = respect_retry_after

    @classmethod
    def of(
        cls,
        patterns: Mapping[StatusClass, tuple[StatusPattern, ...]],
        chosen: Collection[StatusClass] = (),
        *,
        respect_retry_after: bool = True,
    ) -> StatusClasses:
        """Compile the patterns of each class. A class in `chosen` wins over the others, and a status over a range.

        Raise `ConfigError` where two classes claim a status with equal right.
        """
        found: dict[int, tuple[bool, int, StatusClass]] = {}
        for kind, of_kind in patterns.items():
            for pattern in of_kind:
                digits = pattern.rstrip("x")
                claim = (kind in chosen, len(digits), kind)
                for status in (each for each in range(100, 600) if str(each).startswith(digits)):
                    best = found.get(status, (False, 0, kind))
                    if best[:2] == claim[:2] and best[2] != kind:
                        raise ConfigError(
                            f"{pattern} is in both {best[2]}_status and {kind}_status",
                            remedy="leave it in one of them",
                        )
                    found[status] = max(best, claim, key=lambda each: each[:2])
        classes = {status: kind for status, (_, _, kind) in found.items()}
        return cls(classes, respect_retry_after=respect_retry_after)

    def error(self, response: HttpResponse, record_count: int, now_ms: int) -> DeliveryError | None:
        """Return the error of a request of `record_count` records, None if they are stored.

        A success whose body was cut off is no success: its outcome is unknown. An unknown status holds.
        """
        kind = self._classes.get(response.status, "hold")
        if kind == "success":
            return response.cut
        message, code = response.described(), str(response.status)
        if kind == "retry":
            pause_s = response.retry_after_s(now_ms) if self._respect_retry_after else None
            return RetryableError(message, code=code, retry_after_s=pause_s)
        if kind == "reject":
            return RejectError(message, code=code) if record_count == 1 else SplitError(message, code=code)
        return HoldError(message, code=code)


def one_line(text: str) -> str:
    """Return `text` on one line, without characters that a terminal would interpret."""
    return " ".join("".join(each if each.isprintable() else " " for each in text).split())
