"""The kinds of templates: how a value is written where a template stands, and what may not stand there."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from engine.errors import EvaluationError
from engine.language.template.placeholder import Missing, Placeholder, TemplateError, plain_name, reader
from engine.model.jsontext import UNDEFINED, decode
from engine.model.value import to_json, to_text

_MISSING_TEXT = {"null": "null", "empty": "", "undefined": "undefined", "error": ""}
_TOPIC_BYTES_MAX = 65535
_SEGMENT_BYTES_MAX = 255
_KAFKA_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

Writer = Callable[[Mapping[str, Any]], Any]


def text_writer(placeholder: Placeholder, policy: Missing, quoting: str) -> Writer:
    """Values as text; bytes stay bytes."""
    read, absent, name = reader(placeholder, policy), _MISSING_TEXT[policy], plain_name(placeholder, policy)

    def write(columns: Mapping[str, Any]) -> Any:
        value = read(columns)
        if type(value) is str:
            return value
        return absent if value is None or value is UNDEFINED else as_text(value)

    def write_column(columns: Mapping[str, Any]) -> Any:
        value = columns.get(name)  # type: ignore[arg-type]
        if type(value) is str:
            return value
        return absent if value is None or value is UNDEFINED else as_text(value)

    return write if name is None else write_column


def as_text(value: Any) -> str | bytes:
    """The text of a value; a `TemplateError` where it has none."""
    try:
        return to_text(value)
    except EvaluationError as error:
        raise TemplateError(error.message) from error


def json_writer(placeholder: Placeholder, policy: Missing, quoting: str) -> Writer:
    """Values as JSON, or as part of a JSON string.

    A text that is itself a JSON object or array is put in as it is, as EMQX does: ``{"data": ${payload}}``.
    """
    read, absent = reader(placeholder, policy), _MISSING_TEXT[policy]
    bare = "null" if policy != "undefined" else '"undefined"'

    def write_value(columns: Mapping[str, Any]) -> str:
        value = read(columns)
        if value is None or value is UNDEFINED:
            return bare
        return value if type(value) is str and _is_json(value) else _json(value)

    def write_inside(columns: Mapping[str, Any]) -> str:
        value = read(columns)
        if value is None or value is UNDEFINED:
            return "" if policy == "null" else absent
        return _quoted(value)[1:-1]

    def write_quoted(columns: Mapping[str, Any]) -> str:
        value = read(columns)
        return bare if value is None or value is UNDEFINED else _quoted(value)

    return {"": write_value, "inside": write_inside, "whole": write_quoted}[quoting]


def _is_json(text: str) -> bool:
    if text[:1] not in ("{", "["):
        return False
    try:
        decode(text)
    except ValueError:
        return False
    return True


def _json(value: Any) -> str:
    try:
        return to_json(value)
    except EvaluationError as error:
        raise TemplateError(error.message) from error


def _quoted(value: Any) -> str:
    written = as_text(value)
    return _json(written if type(written) is str else b64encode(written).decode())  # type: ignore[arg-type]


def url_writer(placeholder: Placeholder, policy: Missing, quoting: str) -> Writer:
    """Values percent-encoded, slashes included: a value is one segment of a path, or one value of a query."""
    write = text_writer(placeholder, policy, quoting)
    return lambda columns: quote(write(columns), safe="")


def check_topic(topic: str, prefix: str) -> None:
    """An MQTT topic name."""
    if not topic:
        raise TemplateError("the topic is empty")
    if "+" in topic or "#" in topic or "\0" in topic:
        raise TemplateError(f"the topic {topic[:80]!r} has a character (+, # or NUL) that a topic can't have")
    if len(topic) > _TOPIC_BYTES_MAX // 4 and len(topic.encode()) > _TOPIC_BYTES_MAX:
        raise TemplateError(f"the topic is longer than {_TOPIC_BYTES_MAX} bytes")
    if topic[0] == "$" and not prefix:
        raise TemplateError(f"the topic {topic[:80]!r} begins with $, which a value can't choose")


def check_kafka_topic(topic: str, prefix: str) -> None:
    """A Kafka topic name."""
    if _KAFKA_TOPIC.fullmatch(topic) is None or topic in (".", ".."):
        raise TemplateError(f"{topic[:80]!r} is no Kafka topic: up to 249 letters, digits, dots, _ and -")


def check_path(path: str, prefix: str) -> None:
    """A file path that stays below what it begins with."""
    if not path:
        raise TemplateError("the path is empty")
    varying = path[len(prefix) :]
    if _CONTROL.search(varying) or "\\" in varying:
        raise TemplateError(f"the path {path[:80]!r} has a character that a path can't have")
    if not prefix and path[0] == "/":
        raise TemplateError(f"the path {path[:80]!r} begins with /, which a value can't choose")
    segments = path[prefix.rfind("/") + 1 :].split("/")
    if ".." in segments or any(len(segment.encode()) > _SEGMENT_BYTES_MAX for segment in segments):
        raise TemplateError(f"the path {path[:80]!r} leaves its folder or has a name longer than a file's can be")


def check_url(url: str, prefix: str) -> None:
    """A URL or a part of one, whose path holds no dot segments beyond the constant text it begins with."""
    segments = url[prefix.rfind("/") + 1 :].partition("?")[0].split("/")
    if "." in segments or ".." in segments:
        raise TemplateError(f"the URL {url[:80]!r} has a dot segment")
    if _CONTROL.search(url) or " " in url:
        raise TemplateError(f"the URL {url[:80]!r} has a character that a URL can't have")


def confines_url(prefix: str, source: str) -> bool:
    """Whether the constant beginning of a URL fixes its host: scheme, host and the slash behind it."""
    if "://" not in source:
        return True
    return "://" in prefix and bool(urlsplit(prefix).netloc) and "/" in prefix.partition("://")[2]


def check_header(value: str, prefix: str) -> None:
    """The value of an HTTP header: one line."""
    if "\r" in value or "\n" in value or "\0" in value:
        raise TemplateError("a header can't have a line break or a NUL character")


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of templates. ``check`` takes the finished text and the constant text that it begins with."""

    name: str
    title: str
    missing: Missing
    writer: Callable[[Placeholder, Missing, str], Writer] = text_writer
    check: Callable[[str, str], None] | None = None
    is_confined: bool = False
    wanted_prefix: str = "text of its own"
    confines: Callable[[str, str], bool] = lambda prefix, source: True


KINDS: dict[str, Kind] = {
    kind.name: kind
    for kind in (
        Kind("text", "text", "null"),
        Kind("json", "JSON text", "null", json_writer),
        Kind("sql", "parameter", "null"),
        Kind("header", "header", "empty", check=check_header),
        Kind("topic", "topic", "error", check=check_topic, is_confined=True),
        Kind("kafka_topic", "Kafka topic", "error", check=check_kafka_topic, is_confined=True),
        Kind("path", "path", "error", check=check_path, is_confined=True),
        Kind(
            "url_path", "URL", "error", url_writer, check_url, is_confined=True, confines=confines_url,
            wanted_prefix="scheme, host and a slash",
        ),
    )
}  # fmt: skip
"""Every kind by its name."""
