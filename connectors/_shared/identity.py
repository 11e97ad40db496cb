"""Which journal it is that sequence numbers count in, for sinks that store how far they are (`exactly_once`).

A sequence number means something only within one journal. Where ``data_dir`` is lost and begins anew, numbers begin
at 1 again while the target still knows the old ones; without an identity it would skip everything as already stored.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

FILE_NAME = "identity"

_one_at_a_time = threading.Lock()


def journal_identity(data_dir: Path) -> str:
    """The identity kept in `data_dir`, made when first asked for. Blocks on the disk; raises `OSError`.

    The lock suffices because a data_dir belongs to one process.
    """
    path = data_dir / FILE_NAME
    with _one_at_a_time:
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            _create(path, uuid.uuid4().hex)
        return path.read_text(encoding="ascii").strip()


def forget_identity(data_dir: Path) -> None:
    """Let the journal in `data_dir` count as another one: numbers it gave may be given again. Fine where there is none.

    Called before sinks are opened. What a sink has stored and not confirmed may then be stored twice, never skipped.
    """
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def _create(path: Path, identity: str) -> None:
    """Whole or not at all: a crash leaves no half of it behind."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(identity + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
