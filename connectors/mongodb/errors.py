"""The instruction in an error of MongoDB, by its code, or of the driver.

The server reports errors of single documents apart from those of a whole command. A document's error is its own fault
unless its code says otherwise; a command's error is that of the server or the configuration, unless its code says that
one of the documents can't be read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pymongo import errors as mongo

from connectors._shared.isolation import VALUE_CHARACTERS_MAX, shown
from engine.errors import DeliveryError, HoldError, NotConnectedError, RejectError, RetryableError, SplitError

DUPLICATE_KEY = {11000, 11001, 12582}

_RETRYABLE = {
    6, 7, 89, 9001,  # host unreachable, not found, network timeout, socket
    91, 11600,  # shutting down
    189, 10058, 10107, 11602, 13435, 13436,  # not primary, or stepping down
    24, 46, 112,  # locks, write conflicts
    50, 202, 262,  # took longer than the deadline
    63, 133, 134, 150, 234, 13388,  # the view of the shards is old
    64,  # not confirmed by enough members in time: the outcome is unknown
    14031,  # disk full
}  # fmt: skip
_HOLD = {
    13, 18, 8000,  # not authorised, authentication failed, Atlas
    26, 73,  # namespace missing or not allowed
    59, 115, 166, 238,  # not a command here, or not for a view
    20, 72,  # illegal operation, options not allowed
    79, 100,  # a write concern that the replica set does not have
    67, 85, 86, 197,  # the index or collection differs from the options
    323, 391, 11,  # API version, reauthentication, user not found
}  # fmt: skip
_FAULT_OF_RECORD = {
    2, 9, 14, 15, 22,  # bad value, failed to parse, wrong type, nested too deeply, invalid BSON
    28, 40, 52, 54, 55, 56, 57, 66,  # names and paths of fields
    121, 10334, 17280, 17419, 17420,  # validation, size
}  # fmt: skip
_RETRYABLE_LABELS = ("RetryableWriteError", "TransientTransactionError")

_ADVICE = {
    13: "grant the sink's user the right to write to the collection",
    18: "correct the user or the password in `uri`, or its `authSource`",
    8000: "correct the user or the password, or the access list of the Atlas project",
    26: "create the collection, or set `create: true`",
    79: "correct `write_concern`",
    100: "correct `write_concern`",
    238: "the server does not have this feature; remove the option that asks for it",
}

_TLS_WORDS = ("SSL handshake failed", "CERTIFICATE_VERIFY_FAILED", "SSL: ", "tlsv1 alert")
_CUT_WORDS = (", Timeout: ", " (configured timeouts:", ", full error:")
"""Beginnings of what the driver appends to its messages for its own authors."""


def classify_document(error: Mapping[str, Any], where: str) -> DeliveryError:
    """Return the instruction in the error of one document."""
    code = error.get("code")
    message = f"{where}: {_reason(error)}"
    if code in _RETRYABLE:
        return RetryableError(message, code=str(code))
    if code in _HOLD:
        return HoldError(_advised(message, code), code=str(code))
    return RejectError(message, code=str(code))


def is_duplicate_of_id(error: Mapping[str, Any]) -> bool:
    """Whether a document was refused because its `_id` exists, and not for another unique index."""
    if error.get("code") not in DUPLICATE_KEY:
        return False
    pattern = error.get("keyPattern")
    if isinstance(pattern, Mapping):
        return list(pattern) == ["_id"]
    return " index: _id_ " in str(error.get("errmsg"))


def classify(error: mongo.PyMongoError, where: str) -> DeliveryError | None:
    """Return the instruction in an error of a whole command; None where it is unknown."""
    message = f"{where}: {_short(str(error))}"
    if isinstance(error, mongo.ServerSelectionTimeoutError):
        if any(word in str(error) for word in _TLS_WORDS):
            return HoldError(f"{message}; correct `tls` or `uri`", code="tls")
        return NotConnectedError(message, code="server_selection")
    if isinstance(error, (mongo.InvalidOperation, mongo.ConnectionFailure)) and not isinstance(
        error, (mongo.AutoReconnect, mongo.WaitQueueTimeoutError)
    ):
        return NotConnectedError(message)
    if isinstance(error, mongo.ConfigurationError):
        return HoldError(f"{message}; correct `uri`", code="configuration")
    code = getattr(error, "code", None)
    if code in _HOLD:
        return HoldError(_advised(message, code), code=str(code))
    if (
        error.timeout
        or isinstance(error, mongo.ConnectionFailure)
        or code in _RETRYABLE
        or any(error.has_error_label(label) for label in _RETRYABLE_LABELS)
    ):
        # The driver keeps looking for the primary and connects again by itself.
        return RetryableError(f"{message}; the outcome is unknown", code=None if code is None else str(code))
    if code in _FAULT_OF_RECORD or isinstance(error, mongo.DocumentTooLarge):
        return SplitError(message, code=str(code))
    return None


@contextmanager
def translated(where: str) -> Iterator[None]:
    """Translate errors that the driver raises while records are written. An unknown one passes as it is."""
    try:
        yield
    except mongo.PyMongoError as error:
        found = classify(error, where)
        if found is None:
            raise
        raise found from error
    except TimeoutError as error:
        raise RetryableError(f"{where} did not answer in time; the outcome is unknown", code="timeout") from error
    except OSError as error:
        raise NotConnectedError(f"{where}: {error}") from error


@contextmanager
def connecting(where: str) -> Iterator[None]:
    """Translate errors of connecting, where a timeout is an outage and an unknown error is one of the configuration."""
    try:
        with translated(where):
            yield
    except RetryableError as error:
        message = error.message.removesuffix("; the outcome is unknown")
        raise NotConnectedError(message, code=error.code) from error.__cause__
    except mongo.PyMongoError as error:
        raise HoldError(f"{where}: {_short(str(error))}", code=str(getattr(error, "code", None))) from error
    except SplitError as error:
        raise HoldError(error.message, code=error.code) from error.__cause__


def write_concern_failure(errors: list[Mapping[str, Any]], where: str) -> DeliveryError | None:
    """Return the error of the records that are written but not confirmed by enough members; None if there is none."""
    if not errors:
        return None
    code, message = errors[0].get("code"), f"{where}: {errors[0].get('errmsg')}"
    if code in _HOLD:
        return HoldError(_advised(message, code), code=str(code))
    return RetryableError(f"{message}; the outcome is unknown", code=str(code))


def _advised(message: str, code: Any) -> str:
    advice = _ADVICE.get(code)
    return f"{message}; {advice}" if advice else message


def _short(text: str) -> str:
    for word in _CUT_WORDS:
        text = text.partition(word)[0]
    return text


def _reason(error: Mapping[str, Any]) -> str:
    """Return the reason of a document's error, with the fields that the server names in its details."""
    text = str(error.get("errmsg"))[:500]
    pattern = error.get("keyPattern")
    if error.get("code") in DUPLICATE_KEY and isinstance(pattern, Mapping):
        values = error.get("keyValue")
        found = shown(values) if isinstance(values, Mapping) else ", ".join(pattern)
        return f"{', '.join(pattern)}: the unique index has this value already: {found}"
    names = list(_field_names(error.get("errInfo")))
    return f"{', '.join(names)}: {text}" if names else text


def _field_names(info: Any) -> Iterator[str]:
    """Yield the fields that a failed validation (code 121) names in its details."""
    if isinstance(info, list):
        for item in info:
            yield from _field_names(item)
    elif isinstance(info, Mapping):
        for key, value in info.items():
            if key == "propertyName" and isinstance(value, str):
                yield value[:VALUE_CHARACTERS_MAX]
            elif key == "missingProperties" and isinstance(value, list):
                yield from (str(name)[:VALUE_CHARACTERS_MAX] for name in value)
            else:
                yield from _field_names(value)
