"""Publishes each row as a message into the embedded broker, for rules and subscribers, with loop detection.

A record is delivered once the new message is as safe as an acknowledged publish: in the journal of every sink whose
rule matched it. A message that reaches a rule which took part in making it is a loop: its record is rejected with the
names of the rules, and becomes a dead letter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from connectors._shared.isolation import isolate, shown
from engine.connector import ConnectorConfig, Deadline, Failures, Publication, Sink, SinkContext
from engine.errors import ConfigError, HoldError, NotConnectedError, RejectError
from engine.language.template import Template
from engine.language.template.kind import as_text
from engine.language.template.option import templated
from engine.model import jsontext
from engine.model.record import Batch, Record

_PROPERTY_BYTES_MAX = 65_535
"""Bytes of a UTF-8 string or binary data: MQTT 5 gives their length 16 bits (1.5.4, 1.5.6)."""
_LONE = re.compile(r"\$\{[^{}]*\}")


class RepublishConfig(ConnectorConfig):
    """Options of the `republish` sink."""

    topic: Annotated[str, templated("topic")]
    """Template of the topic. It must begin with fixed text unless `allow_unconfined` is set."""
    payload: Annotated[str, templated("payload")] | None = None
    """Template of the payload. Default: the row's `payload` column, or else the whole row as JSON."""
    qos: int | str = "${qos}"
    """0, 1, 2 or a template. QoS 0 if the row lacks the column."""
    retain: bool | str = "${retain}"
    """true, false or a template. Not retained if the row lacks the column."""
    mqtt_properties: dict[str, Annotated[str, templated("text")]] = Field(default_factory=dict)
    """Templates of MQTT 5 properties by name: Payload-Format-Indicator, Message-Expiry-Interval, Content-Type,
    Response-Topic, Correlation-Data."""
    user_properties: Annotated[str, templated("text")] | None = None
    """Template that consists of one placeholder, whose value is a map of user properties."""
    allow_unconfined: bool = False
    """Allow a topic that begins with a placeholder, so that a message can choose any topic."""


class RepublishSink(Sink):
    """Rows as messages into the embedded broker."""

    kind: ClassVar[str] = "republish"
    Config: ClassVar[type[ConnectorConfig]] = RepublishConfig
    EXAMPLES: ClassVar[tuple[str, ...]] = (
        'type: republish\ntopic: "alarms/${device}"\nqos: 1\n',
        'type: republish\ntopic: "by-kind/${kind}/state"\npayload: "${.}"\nretain: true\n',
    )

    def __init__(self, config: RepublishConfig, context: SinkContext) -> None:
        super().__init__(config, context)
        self._publish = context.publish
        self._connected = False
        self._topic = Template.compile(config.topic, kind="topic", allow_unconfined=config.allow_unconfined)
        self._payload = None if config.payload is None else Template.compile(config.payload or "${.}", kind="payload")
        self._qos = _checked("qos", Template.compile(str(config.qos), kind="text"), _qos)
        self._retain = _checked("retain", Template.compile(str(config.retain), kind="text"), _retain)
        self._user_properties = None
        if config.user_properties is not None:
            self._user_properties = Template.compile(config.user_properties, kind="text")
            if not _LONE.fullmatch(config.user_properties):
                raise ConfigError(
                    "`user_properties` must be a single placeholder", remedy="write it like ${properties}"
                )
        unknown = [name for name in config.mqtt_properties if name not in _PROPERTIES]
        if unknown:
            raise ConfigError(
                f"{unknown[0]} is not a property that can be set", remedy=f"use one of {', '.join(_PROPERTIES)}"
            )
        self._properties = {
            name: _checked(
                "mqtt_properties", Template.compile(text, kind="text", missing="empty"), _PROPERTIES[name][1]
            )
            for name, text in config.mqtt_properties.items()
        }

    async def connect(self) -> None:
        if self._publish is None:
            raise HoldError("there is no broker to publish into")
        self._connected = True

    async def write(self, batch: Batch, deadline: Deadline) -> Failures:
        if self._publish is None or not self._connected:
            raise NotConnectedError("not connected to the broker")
        made = isolate(self._publication, enumerate(batch.records))
        refused = Failures(await self._publish(made.results) if made.results else None)
        return made.failures | refused.moved(made.indices)

    async def close(self) -> None:
        self._connected = False

    def _publication(self, record: Record) -> Publication:
        trail = (*record.trail, record.rule_id)
        if record.rule_id in record.trail:
            path = " -> ".join(trail[record.trail.index(record.rule_id) :])
            raise RejectError(f"republish loop through the rules {path}", code="republish_loop")
        columns = record.columns()
        return Publication(
            topic=self._topic.render(columns),
            payload=self._render_payload(record, columns),
            qos=_qos(self._qos.value(columns)),
            retain=_retain(self._retain.value(columns)),
            properties=self._render_properties(columns),
            rule_id=record.rule_id,
            trail=trail,
        )

    def _render_payload(self, record: Record, columns: Mapping[str, Any]) -> bytes:
        if self._payload is not None:
            return self._payload.render_bytes(columns)
        value = record.row.get("payload")
        if value is None:
            return jsontext.encode(record.row)
        text = as_text(value)
        return text.encode() if isinstance(text, str) else text

    def _render_properties(self, columns: Mapping[str, Any]) -> dict[str, Any]:
        properties: dict[str, Any] = {}
        for name, template in self._properties.items():
            data = template.render_bytes(columns)
            if data:
                key, convert = _PROPERTIES[name]
                properties[key] = convert(data)
        if self._user_properties is not None:
            pairs = self._user_properties.value(columns)
            if isinstance(pairs, dict):
                properties["user_property"] = [(_text(key), _text(as_text(value))) for key, value in pairs.items()]
        return properties


def _checked(option: str, template: Template, convert: Callable[[Any], Any]) -> Template:
    """Return `template`. Raise `ConfigError` if it is constant and `convert` does not accept its text."""
    if template.is_constant:
        try:
            convert(template.render({}))
        except RejectError as error:
            raise ConfigError(f"`{option}`: {error.message}", remedy="correct it, or write a placeholder") from error
    return template


def _qos(value: Any) -> int:
    text = str(value)
    if text in ("0", "1", "2"):
        return int(text)
    if value is None or text in ("", "undefined", "UNDEFINED"):
        return 0
    raise RejectError(f"the QoS must be 0, 1 or 2, and is {shown(value)}")


def _retain(value: Any) -> bool:
    text = str(value).lower()
    if text in ("true", "1"):
        return True
    if value is None or text in ("false", "0", "", "undefined"):
        return False
    raise RejectError(f"retain must be true or false, and is {shown(value)}")


def _flag(value: bytes | str) -> int:
    text = _text(value)
    if text not in ("0", "1"):
        raise RejectError(f"Payload-Format-Indicator must be 0 or 1, and is {shown(text)}")
    return int(text)


def _seconds(value: bytes | str) -> int:
    text = _text(value)
    if not (text.isascii() and text.isdecimal() and len(text) <= 10 and int(text) < 2**32):
        raise RejectError(f"Message-Expiry-Interval must be a number of seconds below 2^32, and is {shown(text)}")
    return int(text)


def _text(value: bytes | str) -> str:
    """Return text that MQTT can carry. A client must close the connection on any other (MQTT 5, 1.5.4)."""
    data = _data(value)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise RejectError("a text property can't hold bytes that are not UTF-8") from None
    if "\0" in text:
        raise RejectError("a text property can't hold a NUL character")
    return text


def _response_topic(value: bytes | str) -> str:
    text = _text(value)
    if "+" in text or "#" in text:
        raise RejectError(f"a Response-Topic can't have a wildcard, and is {shown(text)}")
    return text


def _data(value: bytes | str) -> bytes:
    data = value.encode() if isinstance(value, str) else value
    if len(data) > _PROPERTY_BYTES_MAX:
        raise RejectError(f"a property has at most {_PROPERTY_BYTES_MAX} bytes, and this one {len(data)}")
    return data


_PROPERTIES: dict[str, tuple[str, Callable[[bytes | str], Any]]] = {
    "Payload-Format-Indicator": ("payload_format_indicator", _flag),
    "Message-Expiry-Interval": ("message_expiry_interval", _seconds),
    "Content-Type": ("content_type", _text),
    "Response-Topic": ("response_topic", _response_topic),
    "Correlation-Data": ("correlation_data", _data),
}
"""The broker's name of each property of the specification, and the conversion of its value."""
