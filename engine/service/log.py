"""The set-up of logging: one line an event, for people or as JSON, with every known secret blacked out.

Whoever learns a secret (the configuration, as it resolves one) tells `hide`; from then on neither a log line nor
anything passed through `redact` shows it.
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
"""Shorter values are not blacked out: they would take unrelated text with them and hide nothing."""

_secrets: set[str] = set()
_by_length: list[str] = []


def hide(values: Iterable[str]) -> None:
    """Black out `values` from now on, also as a log line or JSON writes them; of a URL also the password in it."""
    for value in values:
        for secret in (value, *_passwords(value)):
            if (len(secret) >= SECRET_CHARS_MIN and not secret.isdecimal()) or len(secret) > 5:
                _secrets.update(_written(secret))
    # Longest first, so that a secret within a secret leaves nothing of the outer one behind.
    _by_length[:] = sorted(_secrets, key=len, reverse=True)


def redact(text: str) -> str:
    """`text` without the secrets."""
    for secret in _by_length:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def forget_secrets() -> None:
    """Black out nothing any more: for tests, whose secrets are their own."""
    _secrets.clear()
    _by_length.clear()


def configure(format: LogFormat = "console", level: LogLevel = "info", stream: TextIO | None = None) -> None:
    """Send log events to `stream` (standard error unless given), and those of libraries with them."""
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
    """Writes each event to a stream as a line. Where that fails (nobody reads it any more, the disk is full) the line
    is lost and nothing else: who has something to say is in the middle of something that must go on."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def msg(self, line: str) -> None:
        with suppress(OSError, ValueError):
            self._stream.write(line + "\n")
            self._stream.flush()

    log = debug = info = warning = error = critical = exception = msg


class _Forward(logging.Handler):
    """Passes what libraries log with the standard library on to structlog."""

    def emit(self, record: logging.LogRecord) -> None:
        logger = structlog.get_logger()
        logger.log(record.levelno, record.getMessage(), logger=record.name, exc_info=record.exc_info or None)


def _route_libraries(level: LogLevel) -> None:
    root = logging.getLogger()
    for handler in [handler for handler in root.handlers if isinstance(handler, _Forward)]:
        root.removeHandler(handler)
    root.addHandler(_Forward())
    # Libraries say at `info` what we say ourselves; they are heard in full when somebody debugs.
    root.setLevel(logging.DEBUG if level == "debug" else logging.WARNING)


def _renderers(format: LogFormat, stream: TextIO) -> list[Any]:
    if format == "json":
        return [structlog.processors.JSONRenderer(ensure_ascii=False), _redact_line]
    # Not rich's tracebacks: they show local variables, which is where passwords are.
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
    """`secret`, and what becomes of it where quotes, backslashes, line breaks and letters beyond ASCII are escaped."""
    both_quotes = repr("'\"" + secret)[4:-1]
    in_json = (json.dumps(secret, ensure_ascii=ascii)[1:-1] for ascii in (True, False))
    return secret, repr(secret)[1:-1], both_quotes, *in_json
