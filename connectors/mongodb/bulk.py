"""Bulk writes of one collection, and the result of each of their records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, PyMongoError

from connectors.mongodb.errors import (
    DUPLICATE_KEY,
    classify,
    classify_document,
    is_duplicate_of_id,
    write_concern_failure,
)
from connectors.mongodb.operations import Operation
from engine.connector import ALL_STORED, Failures
from engine.errors import DeliveryError, DuplicateError, RejectError, SplitError

Collection = AsyncCollection[Any]


class BulkWrite:
    """Writes operations to one collection. A result's indices are those of the operations given."""

    def __init__(self, collection: Collection, where: str, *, is_ordered: bool, has_own_ids: bool) -> None:
        self._collection = collection
        self._where = f"{where}, collection {collection.name}"
        self._is_ordered = is_ordered
        self._has_own_ids = has_own_ids

    async def store(self, operations: Sequence[Operation]) -> Failures:
        """Write `operations` and return those that failed. Raise the error of a command that failed as a whole."""
        if self._is_ordered:
            return await self._store_in_order(operations)
        return await self._store_halved(operations)

    async def _store_in_order(self, operations: Sequence[Operation]) -> Failures:
        """Write one after the other. The server stops at each error, so that what follows it is sent again."""
        failures, start = ALL_STORED, 0
        while start < len(operations):
            found = await self._store_halved(operations[start:])
            stopped = [index for index in found if not isinstance(found[index], _Unsent)]
            failures |= Failures({start + index: found[index] for index in stopped})
            if len(stopped) == len(found):
                break
            if not isinstance(found[stopped[0]], (RejectError, DuplicateError)):
                unsent = range(start + stopped[0] + 1, len(operations))
                return failures | Failures.of(unsent, found[stopped[0]])
            start += stopped[0] + 1
        return failures

    async def _store_halved(self, operations: Sequence[Operation]) -> Failures:
        """Write `operations`; in halves where the server refused them all for one that it can't read."""
        try:
            return await self._send(operations)
        except SplitError as error:
            if len(operations) == 1:
                return Failures({0: RejectError(error.message, code=error.code)})
            middle = len(operations) // 2
            first = await self._store_halved(operations[:middle])
            if self._is_ordered and first:  # what follows a failure is not executed
                return first | Failures.of(range(middle, len(operations)), _UNSENT)
            second = await self._store_halved(operations[middle:])
            return first | second.moved(range(middle, len(operations)))

    async def _send(self, operations: Sequence[Operation]) -> Failures:
        try:
            if isinstance(operations[0], Mapping):
                await self._collection.insert_many(operations, ordered=self._is_ordered)
            else:
                await self._collection.bulk_write(operations, ordered=self._is_ordered)  # type: ignore[arg-type]
        except BulkWriteError as error:
            return await self._result(operations, error.details or {})
        except PyMongoError as error:
            found = classify(error, self._where)
            if found is None:
                raise
            raise found from error
        return ALL_STORED

    async def _result(self, operations: Sequence[Operation], details: Mapping[str, Any]) -> Failures:
        errors: dict[int, DeliveryError] = {}
        unconfirmed = write_concern_failure(details.get("writeConcernErrors") or [], self._where)
        if unconfirmed is not None:
            errors = dict.fromkeys(range(len(operations)), unconfirmed)
        found = {error["index"]: error for error in details.get("writeErrors") or []}
        doubtful = {index: error for index, error in found.items() if error.get("code") in DUPLICATE_KEY}
        for index, error in found.items():
            errors[index] = classify_document(error, self._where)
        if doubtful and isinstance(operations[0], Mapping):
            if self._has_own_ids:
                errors |= await self._stored_before(operations, doubtful)
        elif doubtful and len(operations) > 1:
            # Two upserts of a key at once: the second finds the document that the first has added.
            for index in doubtful:
                again = await self._send([operations[index]])
                errors.pop(index)
                errors |= again.moved([index])
        if self._is_ordered and found:
            errors |= dict.fromkeys(range(min(found) + 1, len(operations)), _UNSENT)
        return Failures(errors)

    async def _stored_before(
        self, operations: Sequence[Operation], doubtful: Mapping[int, Mapping[str, Any]]
    ) -> dict[int, DeliveryError]:
        """Return the duplicates among the records whose key exists, which were stored by an earlier attempt.

        A server that does not name the index is asked which of their `_id` it has.
        """
        known = {index for index, error in doubtful.items() if is_duplicate_of_id(error)}
        unknown = {index: operations[index]["_id"] for index in doubtful if index not in known}  # type: ignore[index]
        unclear = {index for index in unknown if "keyPattern" not in doubtful[index]}
        if unclear:
            ids = [unknown[index] for index in unclear]
            stored = [each["_id"] async for each in self._collection.find({"_id": {"$in": ids}}, {"_id": 1})]
            known |= {index for index in unclear if unknown[index] in stored}
        return {index: DuplicateError("stored before: its `_id` is in the collection") for index in known}


class _Unsent(DeliveryError):
    """The operation follows one that failed, and was not executed."""


_UNSENT = _Unsent("not executed")
