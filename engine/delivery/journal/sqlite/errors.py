"""Which errors say that the file is damaged."""

from __future__ import annotations

import sqlite3

from engine.delivery.journal.damage import DamagedError

_ENVIRONMENT = (
    sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_AUTH, sqlite3.SQLITE_NOMEM, sqlite3.SQLITE_INTERRUPT,
)  # fmt: skip
"""Primary result codes of SQLite that say nothing of the file: disk, rights, memory or another process are at fault."""


def is_damage(error: BaseException) -> bool:
    """Return whether `error` says that the file itself is wrong."""
    if isinstance(error, sqlite3.DatabaseError):
        # The low byte is the primary code, the others make it more precise.
        return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF not in _ENVIRONMENT
    # SQLite quotes damaged text in its message, which Python cannot decode.
    return isinstance(error, (DamagedError, UnicodeDecodeError))
