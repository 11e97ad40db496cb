"""Answers of the write APIs: the error class of each status, and the lines that a refusal names.

InfluxDB 1 and 2 quote a line that they can't parse, and store the others. Of a field type conflict they name the first
field, and count the points: ``partial write: … dropped=2``. InfluxDB 3 lists the numbers of lines.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from connectors._shared.response import REASON_CHARACTERS, HttpResponse, StatusClasses, one_line
from connectors.influxdb.options import InfluxdbConfig
from connectors.influxdb.value import escaped, escaped_measurement
from engine.errors import DeliveryError, HoldError, RejectError, RetryableError

STATUSES = StatusClasses.of(
    {
        "success": ("2xx",),
        "retry": ("408", "425", "429", "5xx"),
        "hold": ("1xx", "3xx", "4xx", "501", "505"),
        "reject": ("400", "413", "422"),
    }
)

REFUSED_POINTS = (400, 422)
"""Statuses of a request of which a point is refused."""

_PARSE = "unable to parse '"
_CONFLICT = re.compile(
    r'input field "(.*?)" on measurement "(.*?)" is type (\w+), already exists as type (\w+)', re.DOTALL
)
_DROPPED = re.compile(r"\s*dropped=(\d+)\s*$")
_MISSING_TARGET = re.compile(r"(database|retention policy|bucket|organization)\b.*\bnot found")
_VALUES = {
    "string": r'"', "float": r"[-+0-9.eE]+(?![iu0-9])", "integer": r"[-+0-9]+i", "unsigned": r"[0-9]+u",
    "boolean": r"[tTfF]",
}  # fmt: skip
"""Beginning of a field's value by the server's name of its type."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """The points that a refusal is about, by their place in the request. The others are to be sent again.

    Only an answer without an error confirms that a point is stored: to send it again does no harm.
    """

    rejected: dict[int, RejectError] = field(default_factory=dict)
    """Records that the server names as those at fault."""
    suspects: frozenset[int] = frozenset()
    """Records of which some are at fault: to be sent apart from the others."""


class AnswerReader:
    """Reads the answers to the requests of one sink. Reasons show no secret, even if the server repeats it."""

    def __init__(self, config: InfluxdbConfig, points_per_record: int) -> None:
        self._config = config
        self._points_per_record = points_per_record
        self._secrets = [
            secret.get_secret_value()
            for secret in (config.token, config.password)
            if secret and secret.get_secret_value()
        ]

    def error(self, response: HttpResponse, record_count: int, now_ms: int) -> DeliveryError | None:
        """Return the error of a request, or None if its points are stored."""
        error = STATUSES.error(response, record_count, now_ms)
        if error is None or error is response.cut:
            return error
        text = _server_text(response.body)
        message = self.reason(response, text)
        missing = _MISSING_TARGET.search(text) if response.status not in REFUSED_POINTS else None
        if missing or isinstance(error, HoldError):
            remedy = self._remedy(response.status, missing[1] if missing else "")
            return HoldError("; ".join(filter(None, (message, remedy))), code=error.code)
        if isinstance(error, RetryableError):
            return RetryableError(message, code=error.code, retry_after_s=error.retry_after_s)
        return type(error)(message, code=error.code)

    def reason(self, response: HttpResponse, text: str) -> str:
        """Return the status and the server's words, for a reason."""
        status = one_line(f"{response.status} {response.reason}")[:REASON_CHARACTERS]
        words = self._redacted(_DROPPED.sub("", text))
        return f"{response.host} answered {status}{': ' if words else ''}{words}"

    def refusal(self, response: HttpResponse, texts: Sequence[bytes]) -> Refusal:
        """Return what the answer to a request of these records says of them."""
        listed = self._listed(response, texts)
        if listed:
            return Refusal(listed)
        text = _server_text(response.body)
        if _PARSE in text:
            return Refusal(self._unparsed(response, text, texts))
        dropped = _DROPPED.search(text)
        if dropped and int(dropped[1]) == len(self._places(texts)):
            error = self.reason(response, text)
            return Refusal({place: RejectError(error, code=str(response.status)) for place in range(len(texts))})
        conflict = _CONFLICT.search(text)
        return Refusal(suspects=frozenset(_conflicting(conflict, texts)) if conflict else frozenset())

    def _listed(self, response: HttpResponse, texts: Sequence[bytes]) -> dict[int, RejectError]:
        """Return the records of the line numbers that InfluxDB 3 lists."""
        places = self._places(texts)
        rejected = {}
        for entry in _entries(response.body):
            number, words = entry.get("line_number"), entry.get("error_message")
            if type(number) is int and 1 <= number <= len(places) and isinstance(words, str):
                reason = self.reason(response, words)
                rejected[places[number - 1]] = RejectError(reason, code=str(response.status))
        return rejected

    def _places(self, texts: Sequence[bytes]) -> Sequence[int]:
        """Return the record of each line, by its place in the request; empty where that is not known.

        Servers count no line break within a text field.
        """
        if self._points_per_record == 1:
            return range(len(texts))
        if any(b'"' in text for text in texts):
            return ()
        return [place for place, text in enumerate(texts) for _ in range(text.count(b"\n") + 1)]

    def _unparsed(self, response: HttpResponse, text: str, texts: Sequence[bytes]) -> dict[int, RejectError]:
        rejected = {}
        for place, line in enumerate(texts):
            quoted = f"{_PARSE}{line.decode()}': "
            at = text.find(quoted)
            if at >= 0:
                words = text[at + len(quoted) :].partition("\n")[0]
                reason = self.reason(response, f"the line can't be parsed: {words}")
                rejected[place] = RejectError(reason, code=str(response.status))
        return rejected

    def _redacted(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return one_line(text)[:REASON_CHARACTERS]

    def _remedy(self, status: int, missing: str) -> str:
        config = self._config
        if status == 401:
            if config.token is not None:
                return "check `token`"
            return "check `username` and `password`" if config.username else "set `token`, or `username` and `password`"
        name = config.bucket if config.api_version() == "2" else config.database
        if status == 403:
            return f"give the user or token the right to write to {name}"
        if missing:
            option = missing.replace(" ", "_").replace("organization", "org")
            return f"create the {missing}, or correct `{option}`"
        return "check `url` and `version`" if status in (404, 405) else ""


def _conflicting(conflict: re.Match[str], texts: Sequence[bytes]) -> list[int]:
    """Return the records that have the field of a conflict with the type that was refused."""
    name, measurement, refused, _ = conflict.groups()
    value = _VALUES.get(refused)
    if value is None:
        return []
    try:
        head, key = escaped_measurement(measurement), escaped(name, "the field")
    except RejectError:
        return []
    pattern = re.compile(
        rf"^{re.escape(head)}[, ](?:.*[ ,])?{re.escape(key)}={value}".encode(), re.MULTILINE | re.DOTALL
    )
    return [place for place, text in enumerate(texts) if pattern.search(text)]


def _server_text(body: bytes) -> str:
    """Return the words of an answer: the message in its JSON, or the answer as it is."""
    found = _decoded(body)
    if isinstance(found, dict):
        for name in ("error", "message", "err"):
            if isinstance(found.get(name), str):
                return str(found[name])
    return body.decode(errors="replace").strip()


def _entries(body: bytes) -> list[dict[str, Any]]:
    found = _decoded(body)
    data = found.get("data") if isinstance(found, dict) else None
    entries = data if isinstance(data, list) else [data]
    return [entry for entry in entries if isinstance(entry, dict)]


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return None
