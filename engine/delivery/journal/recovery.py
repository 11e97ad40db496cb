"""The result of opening or repairing the journal."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from engine.delivery.journal.state import SinkState
from engine.model.metrics import RuleCounters


@dataclass(frozen=True, slots=True)
class RecoveryReport:
    """The findings of the last start or repair."""

    was_clean: bool = True
    """Whether the last process closed it in order."""
    salvaged_records: int = 0
    """Records that were read from a damaged file, those included that had been delivered already."""
    lost_blocks: int = 0
    """Blocks that were found and could not be read. Their records are counted as ``dropped_corrupted`` when their turn
    comes."""
    quarantined: Path | None = None
    """New path of the damaged file."""
    numbers_may_repeat: bool = False
    """Whether records may get numbers that sinks have seen before. Numbers that sinks have stored are void then."""
    is_loss: bool = False
    """Whether acknowledged records may be lost: it is shown as a problem of the service."""
    message: str = "the journal is in order"


@dataclass(frozen=True, slots=True)
class LoadedSink:
    """The stored state of a sink."""

    id: int
    name: str
    state: SinkState
    trimmed_bytes: int


@dataclass(frozen=True, slots=True)
class Loaded:
    """The stored state of the journal at its start."""

    report: RecoveryReport
    sinks: list[LoadedSink] = field(default_factory=list)
    rules: dict[str, RuleCounters] = field(default_factory=dict)
