"""Messages made of rows: topic, partition, key, value and headers, in one queue for each partition."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from aiokafka.partitioner import murmur2

from connectors._shared.isolation import VALUE_ERRORS, rejection, shown
from connectors._shared.routing import columns_for
from engine.connector import Failures
from engine.errors import DeliveryError, RejectError
from engine.language.template import Template
from engine.model import jsontext
from engine.model.record import Batch, Chunk, Record, Row

Headers = list[tuple[str, bytes]]
Message = tuple[int, int, bytes | None, bytes, Headers]
"""Index in the batch, time in milliseconds, key, value, headers. A tuple, the cheapest of all: there are many."""
Queue = list[Message]
Partition = tuple[str, int]
"""A topic, and the number of a partition in it."""
Queues = dict[Partition, Queue]
"""Messages in order, by partition."""

NO_HEADERS: Headers = []

HASHES_MAX = 65_536
"""Keys whose hash is cached: the client hashes in plain Python, at a microsecond for every four bytes."""
OVERHEAD_BYTES = 100
"""Bytes of a message sent alone besides key, value and headers: 61 of the batch's head, up to 36 of lengths."""


class KeyHash:
    """Positive murmur2 hashes of keys, as the Java client and all compatible clients compute them."""

    def __init__(self) -> None:
        self._hashes: dict[bytes, int] = {}

    def __call__(self, key: bytes) -> int:
        found = self._hashes.get(key)
        if found is None:
            if len(self._hashes) >= HASHES_MAX:
                self._hashes.clear()
            found = self._hashes[key] = murmur2(key) & 0x7FFFFFFF
        return found


class Composer:
    """Makes messages by the sink's templates, or without any, which is the usual case, in one pass over the rows."""

    def __init__(
        self,
        topic: Template,
        key: Template | None,
        value: Template | None,
        headers: Mapping[str, Template],
        timestamp: Template | None,
        message_bytes_max: int,
    ) -> None:
        self._topic = topic
        self.fixed_topic = topic.render({}) if topic.is_constant else None
        """The only topic, if it does not depend on the record."""
        self._key = key
        self._value = value
        self._headers = headers
        self._timestamp = timestamp
        self._templates = [each for each in (topic, key, value, timestamp, *headers.values()) if each is not None]
        self._is_plain = topic.is_constant and not headers and key is None and value is None and timestamp is None
        self._bytes_max = message_bytes_max
        self._hash = KeyHash()

    def topics(self, batch: Batch) -> tuple[list[str | None], Failures]:
        """Return the topic of each record, None for the records that failed."""
        topics: list[str | None] = []
        errors: dict[int, DeliveryError] = {}
        for index, columns in enumerate(columns_for(batch, [self._topic])):
            try:
                topics.append(self._topic.render(columns))
            except (RejectError, *VALUE_ERRORS) as error:
                errors[index] = rejection(error)
                topics.append(None)
        return topics, Failures(errors)

    def queues(
        self, batch: Batch, topics: Sequence[str | None] | None, counts: Mapping[str, int]
    ) -> tuple[Queues, Failures]:
        """Return the messages of `batch`, and the records that can't be a message.

        `topics` are those of `topics()`, or None for the fixed one; `counts` are their numbers of partitions. Records
        of a topic without a number are left out of both.
        """
        if self._is_plain and self.fixed_topic is not None:
            return self._plain_queues(batch, self.fixed_topic, counts[self.fixed_topic])
        return self._rendered_queues(batch, topics or [self.fixed_topic] * len(batch), counts)

    def _plain_queues(self, batch: Batch, topic: str, count: int) -> tuple[Queues, Failures]:
        queues: Queues = {}
        errors: dict[int, DeliveryError] = {}
        encode, bytes_max = jsontext.encode, self._bytes_max - OVERHEAD_BYTES
        numbered = enumerate(batch.rows)
        for origin, row_count in batch.origins():
            key, time_ms = origin.client_id.encode(), origin.time_ms
            queue = queues.setdefault((topic, self._hash(key) % count), [])
            size_max = bytes_max - len(key)
            for index, row in islice(numbered, row_count):
                try:
                    value = encode(row)
                except VALUE_ERRORS as error:
                    errors[index] = rejection(error)
                    continue
                if len(value) <= size_max:
                    queue.append((index, time_ms, key, value, NO_HEADERS))
                else:
                    errors[index] = self._too_large(len(value) + len(key))
        return queues, Failures(errors)

    def _rendered_queues(
        self, batch: Batch, topics: Sequence[str | None], counts: Mapping[str, int]
    ) -> tuple[Queues, Failures]:
        queues: Queues = {}
        errors: dict[int, DeliveryError] = {}
        origins = [origin for origin, row_count in batch.origins() for _ in range(row_count)]
        for index, (origin, columns) in enumerate(zip(origins, columns_for(batch, self._templates), strict=True)):
            topic = topics[index]
            if topic is None or topic not in counts:
                continue
            try:
                message = self._message(index, batch.rows[index], columns, origin)
            except (RejectError, *VALUE_ERRORS) as error:
                errors[index] = rejection(error)
                continue
            # A message without a key goes where its client's others go, so that their order is kept.
            key = origin.client_id.encode() if message[2] is None else message[2]
            partition = (topic, self._hash(key) % counts[topic])
            if partition in queues:
                queues[partition].append(message)
            else:
                queues[partition] = [message]
        return queues, Failures(errors)

    def _message(self, index: int, row: Row, columns: Mapping[str, Any], origin: Chunk | Record) -> Message:
        key = origin.client_id.encode() if self._key is None else _bytes(self._key, columns)
        value = jsontext.encode(row) if self._value is None else self._value.render_bytes(columns)
        size = len(value) if key is None else len(value) + len(key)
        headers = NO_HEADERS
        if self._headers:
            headers = [(name, template.render_bytes(columns)) for name, template in self._headers.items()]
            size += sum(len(name) + len(each) for name, each in headers)
        if size > self._bytes_max - OVERHEAD_BYTES:
            raise self._too_large(size)
        time_ms = origin.time_ms if self._timestamp is None else _time_ms(self._timestamp, columns)
        return index, time_ms, key, value, headers

    def _too_large(self, size: int) -> RejectError:
        return RejectError(
            f"the message of {size} bytes is larger than `max_message_bytes` ({self._bytes_max})", code="too_large"
        )


def _bytes(template: Template, columns: Mapping[str, Any]) -> bytes | None:
    """Return the rendered template, or None where it is a lone placeholder without a value."""
    value = template.value(columns)
    if value is None or isinstance(value, bytes):
        return value
    return value.encode() if isinstance(value, str) else template.render_bytes(columns)


def _time_ms(template: Template, columns: Mapping[str, Any]) -> int:
    value = template.value(columns)
    try:
        time_ms = int(value)
    except (TypeError, ValueError, OverflowError):
        time_ms = -1
    if isinstance(value, bool) or not 0 <= time_ms < 2**63:
        raise RejectError(f"`timestamp` is not a number of milliseconds since 1970: {shown(value)}", code="timestamp")
    return time_ms
