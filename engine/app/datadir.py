"""The data directory, locked by one process at a time, with a file by which other commands find its address."""

from __future__ import annotations

import fcntl
import json
import os
from pathlib import Path
from typing import Any

from engine.errors import HeadgateError


class DataDirectoryInUseError(HeadgateError):
    """Another process uses the data directory; ``pid`` is its id if known."""

    def __init__(self, path: Path, pid: int | None) -> None:
        owner = f"process {pid}" if pid else "another process"
        super().__init__(f"{owner} is running on {path}; stop it first, or give this project its own data_dir")
        self.pid = pid


class DataDirectory:
    """Holds the lock on ``<data_dir>/lock`` from `open` to `close`; the system releases it when the process ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: int | None = None

    def open(self) -> None:
        """Create the folder if it is missing and lock it. Raises `DataDirectoryInUseError`."""
        # It holds messages, which other users must not read.
        self.path.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(self.path / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            text = os.read(descriptor, 32).decode("ascii", "replace").strip()
            os.close(descriptor)
            raise DataDirectoryInUseError(self.path, int(text) if text.isdecimal() else None) from None
        os.ftruncate(descriptor, 0)
        os.write(descriptor, f"{os.getpid()}\n".encode())
        self._lock = descriptor

    def announce(self, running: dict[str, Any]) -> None:
        """Write ``run.json``, by which other commands find this process, atomically."""
        draft = self.path / "run.json.tmp"
        draft.write_text(json.dumps(running) + "\n", encoding="utf-8")
        draft.replace(self.path / "run.json")

    def close(self) -> None:
        """Remove ``run.json`` and release the lock. Has no effect when not open."""
        if self._lock is None:
            return
        (self.path / "run.json").unlink(missing_ok=True)
        os.close(self._lock)
        self._lock = None
