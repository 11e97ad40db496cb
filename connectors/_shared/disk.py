"""Folders and operating system errors of sinks that keep files on this machine."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from engine.errors import DeliveryError, HoldError, RejectError, RetryableError

_HOLD = {
    errno.EACCES,
    errno.EPERM,
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EROFS,
    errno.ELOOP,
    errno.ENXIO,
}
_REJECT = {errno.ENAMETOOLONG}


def prepare_folder(folder: Path, *roots: Path) -> None:
    """Create `folder` inside an existing one of `roots`. Raise `HoldError` if it is missing anywhere else.

    A disk that is not mounted is noticed in this way, instead of its mount point being filled.
    """
    if folder.is_dir():
        return
    if not any(folder.is_relative_to(root) and root.is_dir() for root in roots):
        raise HoldError(f"there is no folder {folder}; make it, or mount its disk", code="ENOENT")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise classify(error, f"the folder {folder} can't be made") from error


def classify(error: OSError, failure: str) -> DeliveryError:
    """Return the instruction in `error`: retry for a full or failing disk, hold for a wrong path or missing rights."""
    code = errno.errorcode.get(error.errno or 0)
    message = f"{failure}: {error.strerror or error}"
    if error.errno in _HOLD:
        return HoldError(message, code=code)
    if error.errno in _REJECT:
        return RejectError(message, code=code)
    return RetryableError(message, code=code)


def absolute_path(base: Path, path: str) -> Path:
    """Return the absolute form of a configured path, with ``..`` resolved."""
    return Path(os.path.abspath(base / path))


def sync_folder(folder: Path) -> None:
    """Sync names that were added or changed in `folder` to disk: fsync of a file does not cover its name."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
