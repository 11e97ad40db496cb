"""Kinds of templates, each with its form of values and the checks of its results."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit

from engine.errors import EvaluationError
from engine.language.template.placeholder import Missing, Placeholder, Quoting, TemplateError, plain_name, reader
from engine.model.jsontext import UNDEFINED, decode
from engine.model.value import to_json, to_text

_MISSING_TEXT = {"null": "null", "empty": "", "undefined": "undefined", "error": ""}
_TOPIC_BYTES_MAX = 65535  # MQTT writes the length of a topic in two bytes
_SEGMENT_BYTES_MAX = 255  # NAME_MAX of Linux and macOS
_KAFKA_TOPIC = re.compile(r"[A-Za-z0-9._-]{1,249}")  # Kafka's own rule (org.apache.kafka.common.internals.Topic)
_COLLECTION_BYTES_MAX = 190  # MongoDB has 255 bytes for database and collection, of which a database may take 63
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")

ValueWriter = Callable[[Mapping[str, Any]], Any]
"""Returns the text (or the bytes) of one placeholder for the columns of a row."""


def text_writer(placeholder: Placeholder, policy: Missing, quoting: Quoting) -> ValueWriter:
    """Return a function that writes values as text, and leaves bytes as they are."""
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
    """Return the text of a value. Raise `TemplateError` for a value without a text."""
    try:
        return to_text(value)
    except EvaluationError as error:
        raise TemplateError(error.message) from error


def json_writer(placeholder: Placeholder, policy: Missing, quoting: Quoting) -> ValueWriter:
    """Return a function that writes values as JSON, or as part of a JSON string.

    A text that is a JSON object or array is written unchanged, as in EMQX: ``{"data": ${payload}}``.
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


def url_writer(placeholder: Placeholder, policy: Missing, quoting: Quoting) -> ValueWriter:
    """Return a function that writes values percent-encoded, slashes included.

    A value is one segment of a path, or one value of a query.
    """
    write = text_writer(placeholder, policy, quoting)
    return lambda columns: quote(write(columns), safe="")


def check_topic(topic: str, prefix: str) -> None:
    """Raise `TemplateError` where `topic` is not an MQTT topic name, or a value chose its ``$``."""
    if not topic:
        raise TemplateError("expected a topic, found an empty text")
    if "+" in topic or "#" in topic or "\0" in topic:
        raise TemplateError(f"expected a topic without +, # and NUL, found {topic[:80]!r}")
    # UTF-8 has at most four bytes for a character: most topics need no second look.
    if len(topic) > _TOPIC_BYTES_MAX // 4 and len(topic.encode()) > _TOPIC_BYTES_MAX:
        raise TemplateError(f"expected a topic of at most {_TOPIC_BYTES_MAX} bytes, found {len(topic.encode())}")
    if topic[0] == "$" and not prefix:
        raise TemplateError(
            f"expected a topic without $ at its beginning, found {topic[:80]!r}: a value can't choose it"
        )


def check_kafka_topic(topic: str, prefix: str) -> None:
    """Raise `TemplateError` where `topic` is not a Kafka topic name."""
    if _KAFKA_TOPIC.fullmatch(topic) is None or topic in (".", ".."):
        raise TemplateError(f"expected a Kafka topic (1 to 249 letters, digits, dots, _ and -), found {topic[:80]!r}")


def check_collection(name: str, prefix: str) -> None:
    """Raise `TemplateError` where `name` is not a name of a MongoDB collection, or one of the server's own."""
    if not name:
        raise TemplateError("expected a collection, found an empty text")
    if "$" in name or "\0" in name or name.startswith(("system.", ".")) or name.endswith("."):
        raise TemplateError(f"expected a collection without $, NUL and system. at its beginning, found {name[:80]!r}")
    if len(name.encode()) > _COLLECTION_BYTES_MAX:
        raise TemplateError(
            f"expected a collection of at most {_COLLECTION_BYTES_MAX} bytes, found {len(name.encode())}"
        )


def check_path(path: str, prefix: str) -> None:
    """Raise `TemplateError` where `path` leaves the folder that its constant `prefix` names, or is not a path."""
    if not path:
        raise TemplateError("expected a path, found an empty text")
    varying = path[len(prefix) :]
    if _CONTROL.search(varying) or "\\" in varying:
        raise TemplateError(f"expected a path without control characters and backslashes, found {path[:80]!r}")
    if not prefix and path[0] == "/":
        raise TemplateError(f"expected a relative path, found {path[:80]!r}: a value can't choose an absolute one")
    segments = path[prefix.rfind("/") + 1 :].split("/")
    if ".." in segments:
        raise TemplateError(f"expected a path within its folder, found {path[:80]!r}")
    if any(len(segment.encode()) > _SEGMENT_BYTES_MAX for segment in segments):
        raise TemplateError(
            f"expected names of at most {_SEGMENT_BYTES_MAX} bytes, found a longer one in {path[:80]!r}"
        )


def check_url(url: str, prefix: str) -> None:
    """Raise `TemplateError` where `url` has characters that are not allowed, or dot segments behind its `prefix`."""
    segments = url[prefix.rfind("/") + 1 :].partition("?")[0].split("/")
    if "." in segments or ".." in segments:
        raise TemplateError(f"expected a URL without dot segments, found {url[:80]!r}")
    if _CONTROL.search(url) or " " in url:
        raise TemplateError(f"expected a URL without spaces and control characters, found {url[:80]!r}")


def confines_url(prefix: str, source: str) -> bool:
    """Return whether the constant beginning of a URL fixes its host: it has scheme, host and the slash after it."""
    if "://" not in source:
        return True
    return "://" in prefix and bool(urlsplit(prefix).netloc) and "/" in prefix.partition("://")[2]


def check_header(value: str, prefix: str) -> None:
    """Raise `TemplateError` where `value` has characters that an HTTP header can't have."""
    if "\r" in value or "\n" in value or "\0" in value:
        raise TemplateError(f"expected a header without CR, LF and NUL, found {value[:80]!r}")


def check_measurement(name: str, prefix: str) -> None:
    """Raise `TemplateError` for the empty text, which is no name of a measurement."""
    if not name:
        raise TemplateError("expected a measurement, found an empty text")


@dataclass(frozen=True, slots=True)
class TemplateKind:
    """One kind of templates."""

    name: str
    title: str
    """Its name in error messages."""
    missing: Missing
    """Default of the policy for missing values."""
    writer: Callable[[Placeholder, Missing, Quoting], ValueWriter] = text_writer
    """Returns the writer of a placeholder."""
    check: Callable[[str, str], None] | None = None
    """Raises `TemplateError` for a result that is not allowed. Takes it and the constant text that it begins with."""
    is_confined: bool = False
    """Whether a template must begin with constant text."""
    wanted_prefix: str = "constant text"
    confines: Callable[[str, str], bool] = lambda prefix, source: True
    """Returns whether a constant beginning is enough. Takes it and the template's source."""

    def not_text(self) -> str:
        """Return the error of a value that is not text."""
        return f"expected text in the {self.title}, found bytes that are not UTF-8"

    def not_unicode(self) -> str:
        """Return the error of a text that UTF-8 can't encode."""
        return f"expected Unicode text in the {self.title}, found half of a surrogate pair"


TEMPLATE_KINDS: dict[str, TemplateKind] = {
    kind.name: kind
    for kind in (
        TemplateKind("text", "text", "null"),
        TemplateKind("json", "JSON text", "null", json_writer),
        TemplateKind("sql", "parameter", "null"),
        TemplateKind("header", "header", "empty", check=check_header),
        TemplateKind("topic", "topic", "error", check=check_topic, is_confined=True),
        TemplateKind("kafka_topic", "Kafka topic", "error", check=check_kafka_topic, is_confined=True),
        TemplateKind("collection", "collection", "error", check=check_collection, is_confined=True),
        TemplateKind("path", "path", "error", check=check_path, is_confined=True),
        TemplateKind("measurement", "measurement", "error", check=check_measurement, is_confined=True),
        TemplateKind(
            "url_path", "URL", "error", url_writer, check_url, is_confined=True, confines=confines_url,
            wanted_prefix="scheme, host and a slash",
        ),
    )
}  # fmt: skip
"""All kinds by name."""
