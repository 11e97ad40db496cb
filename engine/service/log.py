"""Logging: one line per event, for people or as JSON, with every known secret redacted.

Code that learns a secret (the configuration, when it resolves one) passes it to `hide`. From then on no log line and no
text from `redact` contains it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Literal, TextIO
from urllib.parse import quote, unquote, urlsplit

import structlog

LogFormat = Literal["console", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]

MASK = "***"
SECRET_CHARS_MIN = 4
"""The shortest secret that is redacted; a shorter one would match unrelated text and protect nothing."""

_secrets: set[str] = set()
_by_length: list[str] = []


def hide(values: Iterable[str]) -> None:
    """Redact `values` from now on, also in their escaped forms in logs and JSON, and the password in a URL."""
    for value in values:
        for secret in (value, *_passwords(value)):
            if (len(secret) >= SECRET_CHARS_MIN and not secret.isdecimal()) or len(secret) > 5:
                _secrets.update(_written(secret))
    # Longest first: if one secret contains another, no part of the outer one remains.
    _by_length[:] = sorted(_secrets, key=len, reverse=True)


def redact(text: str) -> str:
    """Return `text` with every known secret replaced."""
    for secret in _by_length:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def forget_secrets() -> None:
    """Forget all secrets. For tests."""
    _secrets.clear()
    _by_length.clear()


def configure(format: LogFormat = "console", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Write log events, those of libraries included, to `stream` (by default standard error)."""
    stream = stream or sys.stderr
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso" if format == "json" else "%H:%M:%S", utc=format == "json"),
            structlog.processors.ExceptionRenderer() if format == "json" else structlog.processors.StackInfoRenderer(),
            *_renderers(format, stream),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(getattr(logging, level.upper())),
        logger_factory=lambda *_: _Lines(stream),
        cache_logger_on_first_use=False,
    )
    _route_libraries(level)


class _Lines:
    """Writes each event to a stream as a line.

    If writing fails (its reader has ended, the disk is full) the line is lost and no error is raised: a failing log
    must not interrupt the code that logs.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    log = debug = info = warning = error = critical = exception = msg


class _Forward(logging.Handler):
    """Forwards records of the standard library's logging to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _route_libraries(level: LogLevel) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    # At `info` libraries repeat our own events; in full they are of use only for debugging.
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def _renderers(format: LogFormat, stream: TextIO) -> list[Any]:
    if format == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False), _redact_line]
    # Not rich's tracebacks: they show local variables, which can hold passwords.
    plain = structlog.dev.plain_traceback
    return [
        structlog.dev.ConsoleRenderer(colors=stream.isatty(), pad_event_to=0, exception_formatter=plain),
        _redact_line,
    ]


def _redact_line(logger: Any, method: str, line: str | Mapping[str, Any]) -> str:
    return redact(str(line))


def _passwords(value: str) -> tuple[str, ...]:
    try:
        password = urlsplit(value).password
    except ValueError:
        return ()
    return () if password is None else (password, unquote(password), quote(unquote(password), safe=""))


def _written(secret: str) -> tuple[str, ...]:
    """Return `secret` and its forms with quotes, backslashes, line breaks and non-ASCII letters escaped."""
    both_quotes = repr("'\"" + secret)[4:-1]
    in_json = (json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
    return secret, repr(secret)[1:-1], both_quotes, *in_json
