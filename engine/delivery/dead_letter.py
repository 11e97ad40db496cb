"""Dead letters as the journal stores them, made of records that a sink has rejected."""

from __future__ import annotations

from zlib import crc32

from engine.delivery.journal import NewDeadLetter, SinkLog
from engine.delivery.progress import GivenUpRecord, class_of, code_of, text_of
from engine.model.record import Chunk, Record


def new_letter(sink: SinkLog, given_up: GivenUpRecord, now_ms: int) -> NewDeadLetter:
    """Return the stored form of a record that is given up."""
    record, error = given_up.record, given_up.error
    code = code_of(error)
    return NewDeadLetter(
        sink.id, record.lane, record.seq, record.rule_id, record.client_id, record.topic, record.time_ms,
        class_of(error), None if code is None else storable_text(code), storable_text(text_of(error)),
        given_up.attempts, given_up.first_error_ms, now_ms, _chunk(record).encode(),
    )  # fmt: skip


def storable_text(text: str) -> str:
    """Return `text` as UTF-8 can carry it. A lone surrogate in it would keep its whole group from being written."""
    return text.encode("utf-8", "backslashreplace").decode()


def _chunk(record: Record) -> Chunk:
    lane_hash = crc32(record.client_id.encode("utf-8", "surrogatepass"))
    return Chunk(record.rule_id, record.client_id, lane_hash, record.time_ms, record.topic, [record.row], record.trail)
