"""Secrets in log lines, and their redaction."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest
import structlog

from engine.service.log import configure, hide, redact


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:], root.level = handlers, level
    structlog.reset_defaults()


@pytest.mark.parametrize(
    ("secret", "text"),
    [
        ("hunter2-a", "login with hunter2-a failed"),
        ("postgres://u:pa%40ss-b@db/x", "can't connect to postgres://u:pa%40ss-b@db/x"),
        ("postgres://u:pa%40ss-b@db/x", "password pa@ss-b was refused"),
        ("123456789", "token 123456789"),
    ],
)
def test_a_secret_is_redacted_anywhere_in_a_text(secret: str, text: str) -> None:
    """Drivers quote their options, whole or in part, and unquoted."""
    hide([secret])

    assert "***" in redact(text)
    assert not any(part in redact(text) for part in ("hunter2-a", "pa%40ss-b", "pa@ss-b", "123456789"))


def test_short_values_are_not_redacted() -> None:
    """A port from the environment must not redact the year 1883."""
    hide(["1883", "on", ""])

    assert redact("on 1883") == "on 1883"


def test_overlapping_secrets_are_redacted_whole() -> None:
    """Half a token makes guessing easy."""
    hide(["abcd-inner", "abcd-inner-and-outer"])

    assert redact("x abcd-inner-and-outer y") == "x *** y"


@pytest.mark.parametrize("format", ["console", "json"])
def test_log_lines_are_redacted_fields_and_exceptions_included(format: str) -> None:
    """Secrets appear in tracebacks of drivers."""
    hide(["swordfish-9"])
    stream = io.StringIO()
    configure(format, "info", stream)  # type: ignore[arg-type]

    try:
        raise ValueError("refused: swordfish-9")
    except ValueError:
        structlog.get_logger().exception("connect failed", dsn="db://swordfish-9")

    assert "connect failed" in stream.getvalue()
    assert "swordfish-9" not in stream.getvalue()


def test_json_lines_hold_one_object_each() -> None:
    """They are read by programs."""
    stream = io.StringIO()
    configure("json", "info", stream)

    structlog.get_logger().info("started", rules=3)
    structlog.get_logger().debug("not shown")

    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(event["event"], event["level"], event["rules"]) for event in events] == [("started", "info", 3)]


def test_records_of_libraries_are_log_lines_too() -> None:
    """A warning of the database driver belongs in the same file, in the same form."""
    stream = io.StringIO()
    configure("json", "info", stream)

    logging.getLogger("driver").warning("slow %s", "query")
    logging.getLogger("driver").info("chatter")

    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [(event["event"], event["logger"]) for event in events] == [("slow query", "driver")]


@pytest.mark.parametrize("format", ["console", "json"])
@pytest.mark.parametrize("secret", ['qu"zebra', "back\\zebra", "two\nzebra", "grö zebra", "tick'zebra", "'\"zebra"])
def test_a_secret_is_redacted_in_escaped_form(format: str, secret: str) -> None:
    """Passwords hold any characters, and log lines escape some of them."""
    hide([secret])
    stream = io.StringIO()
    configure(format, "info", stream)  # type: ignore[arg-type]

    structlog.get_logger().warning("held", reason=f"no {secret} there", why=f'"{secret}" isn\'t there')

    assert "zebra" not in stream.getvalue()
    assert stream.getvalue().count("***") == 2
