"""Rows that the journal cannot store: they are separated from the others, and kept as dead letters with a preview."""

from __future__ import annotations

from dataclasses import dataclass

from engine.delivery.dead_letter import storable_text
from engine.delivery.journal import NewDeadLetter, SinkLog
from engine.delivery.preview import preview
from engine.delivery.progress import text_of
from engine.errors import RejectError
from engine.model.record import Chunk

PREVIEW_CHARACTERS = 10_000
"""Length of the preview of a row: some screens of text, and little beside the 1 MiB that a message may have."""

REASON_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class UnstorableRow:
    """A row that cannot be encoded. ``origin`` is a chunk of this one row."""

    origin: Chunk
    error: RejectError


def separate(chunk: Chunk) -> tuple[list[Chunk], list[UnstorableRow]]:
    """Return `chunk` in parts that can be stored, and the rows of it that cannot.

    Raises `MemoryError`, which says nothing of a row.
    """
    if _encoding_error(chunk) is None:
        return [chunk], []
    storable: list[Chunk] = []
    unstorable: list[UnstorableRow] = []
    for index in range(len(chunk.rows)):
        part = chunk.part(index, index + 1)
        error = _encoding_error(part)
        if error is None:
            storable.append(part)
        else:
            unstorable.append(UnstorableRow(part, error))
    return storable, unstorable


def unstorable_letter(sink: SinkLog, row: UnstorableRow, now_ms: int) -> NewDeadLetter:
    """Return the dead letter of `row`, with a preview in place of the row."""
    origin = row.origin
    client_id, topic, rule_id = (
        storable_text(origin.client_id),
        storable_text(origin.topic(0)),
        storable_text(origin.rule_id),
    )
    shown = {"_unstorable": storable_text(preview(origin.rows[0], PREVIEW_CHARACTERS))}
    trail = tuple(map(storable_text, origin.trail))
    chunk = Chunk(rule_id, client_id, origin.lane_hash, origin.time_ms, topic, [shown], trail)
    reason = storable_text(text_of(row.error)[:REASON_CHARACTERS])
    return NewDeadLetter(
        sink.id, 0, 0, rule_id, client_id, topic, origin.time_ms, "reject", None, reason, 0, now_ms, now_ms,
        chunk.encode(),
    )  # fmt: skip


def _encoding_error(chunk: Chunk) -> RejectError | None:
    """Return why `chunk` cannot be encoded, or None where it can."""
    try:
        chunk.encode()
    except MemoryError:
        raise
    except ValueError as error:
        return RejectError(str(error))
    except Exception as error:
        return RejectError(f"a row can't be stored: {text_of(error)}")
    return None
