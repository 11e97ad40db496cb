"""Text of rows: JSON, or the result of a template. Rows are encoded together; one that can't be encoded fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from connectors._shared.isolation import VALUE_ERRORS, isolate
from connectors._shared.routing import columns_for
from engine.connector import ALL_STORED, Failures
from engine.errors import RejectError
from engine.language.template import Template
from engine.model import jsontext
from engine.model.record import Batch


@dataclass(frozen=True, slots=True)
class EncodedRows:
    """The text of some records, and the records that have no text."""

    indices: Sequence[int]
    """The records in `text`, in order."""
    text: bytes
    failures: Failures


class RowEncoder:
    """Writes rows as JSON objects, or by a template."""

    def __init__(self, template: Template | None, separator: bytes = b"\n") -> None:
        self._template = template
        self._separator = separator

    def join(self, batch: Batch, indices: Sequence[int]) -> EncodedRows:
        """Encode the records at `indices`, with the separator between them."""
        columns = batch.rows if self._template is None else columns_for(batch, [self._template])
        rows = columns if len(indices) == len(columns) else [columns[index] for index in indices]
        with suppress(RejectError, *VALUE_ERRORS):
            return EncodedRows(indices, self._encode(rows), ALL_STORED)
        encoded = isolate(self._encode_one, zip(indices, rows, strict=True))
        return EncodedRows(encoded.indices, self._separator.join(encoded.results), encoded.failures)

    def _encode_one(self, row: Mapping[str, Any]) -> bytes:
        return self._encode([row])

    def _encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        if self._template is not None:
            return self._separator.join([self._template.render_bytes(row) for row in rows])
        lines = jsontext.encode_lines(rows)[:-1]
        return lines if self._separator == b"\n" else lines.replace(b"\n", self._separator)
