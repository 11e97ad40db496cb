"""Lines of a batch: one or more points for each record, by the options of the sink."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from connectors._shared.isolation import VALUE_ERRORS, isolate
from connectors._shared.routing import columns_for
from connectors.influxdb.options import InfluxdbConfig
from connectors.influxdb.point import PointTemplate
from connectors.influxdb.syntax import PointText, parse_write_syntax
from connectors.influxdb.value import message_time, timestamp_reader
from engine.connector import ALL_STORED, Failures
from engine.errors import ConfigError, RejectError
from engine.model.jsontext import UNDEFINED
from engine.model.record import Batch

Item = tuple[Mapping[str, Any], int, int]
"""The columns of a record, the time of its message, its sequence number."""


@dataclass(frozen=True, slots=True)
class BatchLines:
    """The text of each record that has one, and the rejections of the others."""

    indices: Sequence[int]
    texts: Sequence[bytes]
    failures: Failures


class LineEncoder:
    """Writes records as line protocol."""

    def __init__(self, config: InfluxdbConfig) -> None:
        """Raise `ConfigError` for a broken template."""
        unit = config.unit()
        self._message_time = message_time(unit)
        self._read_time = timestamp_reader(unit)
        self._no_fields = "no field of the point has a value"
        takes_text = config.api_version() != "victoriametrics"
        if not takes_text:
            self._no_fields += " that is a number or a boolean, and VictoriaMetrics stores no text"
        try:
            self._points = [
                PointTemplate(
                    text.measurement,
                    text.tags,
                    text.fields,
                    text.timestamp,
                    allow_unconfined=config.allow_unconfined,
                    integers=config.integers,
                    takes_text=takes_text,
                )
                for text in _texts(config)
            ]
        except RejectError as error:  # of a name that is constant, and so the same for every row
            raise ConfigError(error.message, remedy="correct the name") from error
        self.points_per_record = len(self._points)
        self._templates = [template for point in self._points for template in point.templates]

    def encode(self, batch: Batch) -> BatchLines:
        """Return the lines of `batch`. A record that has none fails alone."""
        items = list(zip(columns_for(batch, self._templates), _times(batch), batch.seqs, strict=True))
        try:
            return BatchLines(range(len(items)), list(map(self._text, items)), ALL_STORED)
        except (RejectError, *VALUE_ERRORS):
            pass
        written = isolate(self._text, enumerate(items))
        return BatchLines(written.indices, written.results, written.failures)

    def _text(self, item: Item) -> bytes:
        columns, time_ms, seq = item
        lines = []
        for point in self._points:
            line = point.line(columns)
            if line is None:
                continue
            at = None if point.timestamp is None else point.timestamp.value(columns)
            if at is None or at is UNDEFINED:
                lines.append(f"{line} {self._message_time(time_ms, seq)}")
            else:
                lines.append(f"{line} {self._read_time(at)}")
        if not lines:
            raise RejectError(f"{self._no_fields}, and a point needs one", code="no_fields")
        return "\n".join(lines).encode()


def _times(batch: Batch) -> Iterator[int]:
    """Yield the time of each record's message. Makes no records."""
    for origin, count in batch.origins():
        for _ in range(count):
            yield origin.time_ms


def _texts(config: InfluxdbConfig) -> list[PointText]:
    if config.write_syntax is not None:
        return parse_write_syntax(config.write_syntax)
    fields = None if config.fields is None else list(config.fields.items())
    return [PointText(config.measurement or "", list(config.tags.items()), fields, config.timestamp)]
