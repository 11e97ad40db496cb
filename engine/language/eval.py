"""A statement over events given as data: what ``headgate eval`` answers, without a broker.

One JSON object a line comes in, ``{"id", "sql", "event"}``, and one goes out. Its ``kind`` is ``outputs`` with the
rows in ``value``, ``no_match``, ``error`` (evaluation failed) or ``invalid`` (not a rule), the last two with
``message``, ``line`` and ``column``. Without an event the statement is only compiled: ``valid``, with the topics of
FROM in ``from``, or ``invalid``.
"""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from typing import Any

from engine.errors import EvaluationError, Position, Problem, RuleError
from engine.language.events import EVENTS, SOURCE_PREFIXES, event_topic, is_event_filter, matches
from engine.language.sql import CompiledRule, Statement, check_rule, compile_rule, parse
from engine.model.jsontext import decode, encode
from engine.model.message import NODE, ClientIdentity, Message, Occurrence, new_message_id, property_columns
from engine.model.topic import topic_matches
from engine.service.clock import Clock, SystemClock

__all__ = ["evaluate_event", "evaluate_line", "main_stream"]

Answer = dict[str, Any]

_PUBLISH = "message_publish"


def main_stream(lines: Iterable[str | bytes], write: Callable[[str], object], clock: Clock | None = None) -> None:
    """Answer each line with a line, in order; empty lines are passed over."""
    for line in lines:
        if line.strip():
            write(encode(evaluate_line(line, clock)).decode() + "\n")


def evaluate_line(text: str | bytes, clock: Clock | None = None) -> Answer:
    """The answer to one line. Never raises."""
    try:
        request = decode(text)
    except ValueError as error:
        return {"id": None, "kind": "error", "message": f"the line is not JSON: {error}"}
    if not isinstance(request, dict):
        return {"id": None, "kind": "error", "message": "the line is not a JSON object"}
    answer: Answer = {"id": request.get("id")}
    try:
        sql = _statement_text(request)
        event = request.get("event")
        answer |= _validate(sql) if event is None else evaluate_event(sql, event, clock)
        encode(answer)
    except RuleError as error:
        answer |= _refused("invalid", error)
    except ValueError as error:  # a row that has no JSON form
        return {"id": answer["id"], "kind": "error", "message": str(error)}
    return answer


def evaluate_event(sql: str, event: Any, clock: Clock | None = None) -> Answer:
    """The answer for one statement and event, `id` excepted. Raises `RuleError` where the text is no statement."""
    statement = parse(sql)
    try:
        compiled = _compiled(sql)
    except RuleError as error:  # it is a statement, so only something in it does not exist
        return _refused("error", error)
    try:
        happening = occurrence_of(event, clock or SystemClock())
    except ValueError as error:
        return {"kind": "error", "message": str(error)}
    if not any(_selects(source.topic, event, happening) for source in statement.sources):
        return {"kind": "no_match"}
    try:
        result = compiled.evaluate(happening)
    except EvaluationError as error:
        return {"kind": "error", **_mistake(error.message, error.position)}
    if result is None:
        return {"kind": "no_match"}
    return {"kind": "outputs", "value": result if compiled.many else [result]}


def occurrence_of(event: Any, clock: Clock) -> Message | Occurrence:
    """What a rule gets for an event given as data. Raises `ValueError` where it is none.

    A publish that has no more than what publishes have is a `Message`, as it is in service; anything else is an
    `Occurrence` of exactly the given columns, and those that the broker itself would fill in.
    """
    if not isinstance(event, dict):
        raise ValueError("the event is not a JSON object")
    columns = dict(event)
    kind = columns.pop("event_type", _PUBLISH)
    if not isinstance(kind, str):
        raise ValueError("event_type is not text")
    if "payload_b64" in columns:
        columns["payload"] = _bytes(columns.pop("payload_b64"))
    now_ms = clock.now_ms()
    if kind == _PUBLISH:
        return _message(columns, now_ms) or _publish(columns, now_ms)
    topic = kind if kind.startswith(SOURCE_PREFIXES) else event_topic(kind)
    return Occurrence(topic, _filled(topic, columns, now_ms), _client(columns), now_ms)


_MESSAGE_KINDS: Mapping[str, type] = {
    "topic": str, "payload": str, "qos": int, "clientid": str, "username": str, "timestamp": int, "client_attrs": dict,
}  # fmt: skip


def _message(columns: dict[str, Any], now_ms: int) -> Message | None:
    """The publish as the broker would make it, where it can be one."""
    if not {"topic", "payload", "clientid"} <= columns.keys() <= _MESSAGE_KINDS.keys():
        return None
    payload = columns["payload"]
    if not all(type(value) is _MESSAGE_KINDS[name] for name, value in columns.items() if name != "payload"):
        return None
    octets = payload.encode() if isinstance(payload, str) else payload
    if not isinstance(octets, bytes):
        return None
    time_ms = columns.get("timestamp", now_ms)
    return Message(columns["topic"], octets, columns.get("qos", 0), False, False, _client(columns), time_ms)


def _publish(columns: dict[str, Any], now_ms: int) -> Occurrence:
    """A publish of exactly these columns, and those that every publish has."""
    filled = {
        "event": "message.publish", "id": new_message_id(now_ms), "qos": 0, "flags": {"retain": False, "dup": False},
        "pub_props": property_columns(None), "publish_received_at": now_ms, "client_attrs": {}, "timestamp": now_ms,
        "node": NODE, **columns,
    }  # fmt: skip
    payload = filled.get("payload")
    if isinstance(payload, bytes):
        filled["payload"] = _text_of(payload)
    topic = filled.get("topic")
    return Occurrence(topic if isinstance(topic, str) else "", filled, _client(columns), now_ms)


def _filled(topic: str, columns: dict[str, Any], now_ms: int) -> dict[str, Any]:
    name = next((event.name for event in EVENTS.values() if event.topic == topic), topic)
    if isinstance(columns.get("payload"), bytes):
        columns["payload"] = _text_of(columns["payload"])
    return {"event": name, "timestamp": now_ms, "node": NODE, **columns}


def _client(columns: Mapping[str, Any]) -> ClientIdentity:
    clientid, username, attributes = columns.get("clientid"), columns.get("username"), columns.get("client_attrs")
    return ClientIdentity(
        clientid if isinstance(clientid, str) else "",
        username if isinstance(username, str) else None,
        attributes=attributes if isinstance(attributes, dict) else None,
    )


def _selects(item: str, event: Mapping[str, Any], happening: Message | Occurrence) -> bool:
    """Whether an item of FROM selects the event: publishes by their topic, all else by what it is."""
    if event.get("event_type", _PUBLISH) == _PUBLISH:
        return not is_event_filter(item) and topic_matches(item, happening.topic)
    if happening.topic.startswith(SOURCE_PREFIXES):
        return _is_same_source(item, happening.topic)
    return is_event_filter(item) and matches(item, happening.topic)


def _is_same_source(item: str, topic: str) -> bool:
    """Whether both name one source: the two prefixes mean the same, ``type:*`` in the event stands for any name."""
    if not item.startswith(SOURCE_PREFIXES):
        return False
    named, found = item.partition("/")[2], topic.partition("/")[2]
    return named == found or (found.endswith(":*") and named.startswith(found[:-1]))


def _statement_text(request: Mapping[str, Any]) -> str:
    sql = request.get("sql")
    if sql is None and "sql_b64" in request:
        try:
            return _bytes(request["sql_b64"]).decode()
        except UnicodeDecodeError as error:
            message = f"the statement is not valid UTF-8: {error.reason} at byte {error.start}"
            raise RuleError(message, Position(1, 1), "save it as UTF-8") from error
    if not isinstance(sql, str):
        raise RuleError("there is no statement", Position(1, 1), 'give one as "sql"')
    return sql


def _bytes(text: Any) -> bytes:
    if not isinstance(text, str):
        raise ValueError("base64 is not given as text")
    try:
        return b64decode(text, validate=True)
    except Base64Error as error:
        raise ValueError(f"not base64: {error}") from error


def _text_of(data: bytes) -> str | bytes:
    try:
        return data.decode()
    except UnicodeDecodeError:
        return data


def _validate(sql: str) -> Answer:
    statement: Statement = parse(sql)
    answer: Answer = {"kind": "valid", "from": [source.topic for source in statement.sources]}
    warnings = check_rule(sql)
    if warnings:
        answer["warnings"] = [_warning(problem) for problem in warnings]
    return answer


def _warning(problem: Problem) -> Answer:
    return {**_mistake(problem.message, problem.position), "remedy": problem.remedy}


@lru_cache(maxsize=256)
def _compiled(sql: str) -> CompiledRule:
    return compile_rule(sql, rule_id="eval")


def _refused(kind: str, error: RuleError) -> Answer:
    answer: Answer = {"kind": kind, **_mistake(error.message, error.position)}
    if error.remedy:
        answer["remedy"] = error.remedy
    return answer


def _mistake(message: str, position: Position | None) -> Answer:
    answer: Answer = {"message": message}
    if position is not None:
        answer |= {"line": position.line, "column": position.column}
    return answer


def _main() -> None:
    import sys

    main_stream(sys.stdin.buffer, sys.stdout.write)


if __name__ == "__main__":
    _main()
