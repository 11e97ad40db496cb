"""Rows to text: JSON, or what a template makes of them. Many at once; a row that can't be written fails alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from connectors._shared.routing import columns_for
from engine.errors import DeliveryError, RejectError
from engine.language.template import Template
from engine.model import jsontext
from engine.model.record import Batch


class RowEncoder:
    """Writes rows as JSON objects, or as `template` says."""

    def __init__(self, template: Template | None, separator: bytes = b"\n") -> None:
        self._template = template
        self._separator = separator

    def join(
        self, batch: Batch, indices: Sequence[int], failures: dict[int, DeliveryError]
    ) -> tuple[Sequence[int], bytes]:
        """The text of the records at `indices`, and whose it is; records that have none go to `failures`."""
        columns = batch.rows if self._template is None else columns_for(batch, [self._template])
        rows = columns if len(indices) == len(columns) else [columns[index] for index in indices]
        with suppress(ValueError, RejectError):
            return indices, self._encode(rows)
        kept: list[int] = []
        texts: list[bytes] = []
        for index, row in zip(indices, rows, strict=True):
            try:
                texts.append(self._encode([row]))
            except RejectError as error:
                failures[index] = error
            except ValueError as error:
                failures[index] = RejectError(str(error))
            else:
                kept.append(index)
        return kept, self._separator.join(texts)

    def _encode(self, rows: Sequence[Mapping[str, Any]]) -> bytes:
        if self._template is not None:
            return self._separator.join([self._template.render_bytes(row) for row in rows])
        lines = jsontext.encode_lines(rows)[:-1]
        return lines if self._separator == b"\n" else lines.replace(b"\n", self._separator)
