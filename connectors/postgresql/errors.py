"""The instruction in an error of PostgreSQL, by SQLSTATE, or of the connection to it."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import asyncpg

from engine.errors import DeliveryError, HoldError, NotConnectedError, RetryableError

_NOT_CONNECTED = {
    "08",  # connection
    "25006",  # read-only: after a failover the standby answers; look for the one that can be written
    "57P01", "57P02", "57P03", "57P05",  # shutting down, crashed, starting, idle for too long
    "26000",  # a prepared statement that the server does not know: a pooler, or a restart
    "22P03",  # a binary value of the wrong length: the column's type has changed
}  # fmt: skip
_RETRYABLE = {
    "40",  # serialization failure, deadlock
    "53",  # disk full, out of memory, too many connections
    "55006", "55P03",  # locked
    "57014",  # took longer than statement_timeout
    "58", "XX",  # the system, the server itself
    "42701", "42P07",  # somebody else is creating the same table or column
}  # fmt: skip
_FAULT_OF_ROW = {
    "20",  # a CASE of a trigger's or a function's without a branch for the value
    "21",  # the same key twice in one statement
    "22", "23",  # data, constraints
    "38", "39", "P0",  # raised by a trigger or a function
    "44",  # a view's check option
    "42622",  # too long for a value of the type `name`
    "54",  # beyond what the server can hold
}  # fmt: skip
_SERVERS_CLASSES = {
    "00", "01", "02", "03", "08", "09", "0A", "0B", "0F", "0L", "0P", "0Z", "10", "20", "21", "22", "23", "24", "25",
    "26", "27", "28", "2B", "2D", "2F", "34", "38", "39", "3B", "3D", "3F", "40", "42", "44", "53", "54", "55", "57",
    "58", "72", "F0", "HV", "P0", "XX",
}  # fmt: skip
"""Classes of PostgreSQL's own codes (its manual, appendix A). Others come from triggers and functions of the user."""

_ADVICE = {
    "28": "correct the user or the password of the sink, or the access rules of the server",
    "3D000": "create the database, or correct its name",
    "3F000": "create the schema, or correct its name",
    "42501": "grant the right to the sink's user",
    "42P01": "create the table, or correct its name",
    "42703": "correct the name, or add the column",
}


def is_fault_of_row(error: asyncpg.PostgresError) -> bool:
    """Whether a row of the batch may have caused `error`."""
    code = error.sqlstate
    if code is None or code == "22P03":
        return False
    return code[:2] not in _SERVERS_CLASSES or _listed(code, _FAULT_OF_ROW)


def is_drivers_own(error: Exception) -> bool:
    """Whether the driver raised `error` for a value, before it sent anything; the server's errors have a severity."""
    return not isinstance(error, asyncpg.PostgresError) or error.severity is None


def reason(error: asyncpg.PostgresError) -> str:
    """Return the server's message on one line, with the values in its detail."""
    said = error.args[0] if error.args else str(error)
    return f"{said} ({error.detail})" if error.detail and error.detail not in said else str(said)


def classify(error: asyncpg.PostgresError, where: str) -> DeliveryError:
    """Return the instruction in an error that no row caused. An unknown one holds."""
    code = error.sqlstate
    message = f"{where}: {reason(error)}"
    outdated = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
    if isinstance(error, outdated) or _listed(code, _NOT_CONNECTED):
        return NotConnectedError(message, code=code)
    if _listed(code, _RETRYABLE):
        return RetryableError(message, code=code)
    advice = _ADVICE.get(code or "") or _ADVICE.get((code or "")[:2])
    return HoldError(f"{message}; {advice}" if advice else message, code=code)


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate errors that the driver raises while records are written."""
    try:
        yield
    except asyncpg.PostgresError as error:
        raise classify(error, where) from error
    except TimeoutError as error:
        raise RetryableError(f"{where} did not answer in time", code="timeout") from error
    except (OSError, asyncpg.InterfaceError, asyncpg.InternalClientError) as error:
        # The driver raises an internal error for a failed connection whose end it has not noticed.
        raise NotConnectedError(f"{where}: {error}") from error


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Translate errors of connecting, where a timeout is an outage and a wrong option shows itself."""
    try:
        with translated(where):
            yield
    except RetryableError as error:
        raise NotConnectedError(error.message, code=error.code) from error.__cause__
    except NotConnectedError as error:
        cause = error.__cause__
        if isinstance(cause, asyncpg.TargetServerAttributeNotMatched):
            raise NotConnectedError(f"{where}: no host matches `session_attrs`", code="25006") from cause
        if "unsupported startup parameter" in error.message:
            raise HoldError(f"{error.message}; for a pooler, set `prepared_statements: false`", code="08P01") from cause
        if isinstance(cause, (ssl.SSLError, asyncpg.ClientConfigurationError)) or "rejected SSL" in error.message:
            raise HoldError(f"{error.message}; correct `tls` or `dsn`", code=error.code) from cause
        raise


def _listed(code: str | None, codes: set[str]) -> bool:
    return code is not None and (code in codes or code[:2] in codes)
