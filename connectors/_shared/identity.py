"""The identity of the journal, for sinks that store a watermark of sequence numbers in their target (`exactly_once`).

Sequence numbers are unique within one journal. After ``data_dir`` is lost they start at 1 again, below the watermarks
in the target; without an identity beside them, every new record would be skipped as already stored.
"""

from __future__ import annotations

import os
import threading
import uuid
from pathlib import Path

FILE_NAME = "identity"

_one_at_a_time = threading.Lock()


def journal_identity(data_dir: Path) -> str:
    """Return the identity in `data_dir`, created on first use. Blocks on the disk. Raise `OSError`.

    A lock within the process suffices, because a data_dir belongs to one process.
    """
    path = data_dir / FILE_NAME
    with _one_at_a_time:
        if not path.exists():
            data_dir.mkdir(parents=True, exist_ok=True)
            _create(path, uuid.uuid4().hex)
        return path.read_text(encoding="ascii").strip()


def forget_identity(data_dir: Path) -> None:
    """Delete the identity in `data_dir`, if there is one: the journal may assign its sequence numbers again.

    To be called before sinks are opened. Records that a sink stored but did not confirm may then be stored twice, but
    no record is skipped.
    """
    (data_dir / FILE_NAME).unlink(missing_ok=True)


def _create(path: Path, identity: str) -> None:
    """Write the file atomically, so that a crash leaves no partial one."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("w", encoding="ascii") as file:
        file.write(identity + "\n")
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
