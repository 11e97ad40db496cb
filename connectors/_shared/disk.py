"""What sinks that keep files on this machine share: their folders, and what an error of the system asks for."""

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
    """Make `folder` if it lies in one of `roots` that exists; anywhere else it must be there, or `HoldError` is raised.

    So that a disk that is not mounted is noticed, and the folder it should be mounted on is not filled instead.
    """
    if folder.is_dir():
        return
    if not any(folder.is_relative_to(root) and root.is_dir() for root in roots):
        raise HoldError(f"there is no folder {folder}; make it, or mount its disk", code="ENOENT")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise classify(error, f"the folder {folder} can't be made") from error


def classify(error: OSError, what: str) -> DeliveryError:
    """What `error` asks for: a full or failing disk is waited for, a wrong path or missing rights need somebody."""
    code = errno.errorcode.get(error.errno or 0)
    message = f"{what}: {error.strerror or error}"
    if error.errno in _HOLD:
        return HoldError(message, code=code)
    if error.errno in _REJECT:
        return RejectError(message, code=code)
    return RetryableError(message, code=code)


def place(base: Path, path: str) -> Path:
    """The absolute form of a configured path, without the ``..`` in it."""
    return Path(os.path.abspath(base / path))


def sync_folder(folder: Path) -> None:
    """Make names that were added to or changed in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
