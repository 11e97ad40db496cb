"""The operations that write the records of a batch, one for each, by the sink's mode and templates."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from bson import ObjectId
from bson.raw_bson import RawBSONDocument
from pymongo import DeleteOne, ReplaceOne, UpdateOne

from connectors._shared.isolation import Isolated, isolate, shown
from connectors.mongodb.document import DocumentTemplate, are_encodable, encoded
from connectors.mongodb.options import MongodbConfig
from engine.connector import ALL_STORED
from engine.errors import ConfigError, RejectError
from engine.language.template import Template
from engine.model.record import Batch

Operation = RawBSONDocument | dict[str, Any] | UpdateOne | ReplaceOne[Any] | DeleteOne
"""The operation that writes a record; a document alone is inserted."""

_WHOLE_ROW = "${.}"


class OperationPlanner:
    """Makes the operation of each record."""

    def __init__(self, config: MongodbConfig) -> None:
        """Compile the templates. Raise `ConfigError` where one of them is wrong."""
        self._mode = config.mode
        self._rules = config.rules()
        self._document = None
        if config.document != _WHOLE_ROW:
            self._document = DocumentTemplate.compile(config.document, "document", "null")
        self._has_operators = self._check_operators()
        self._filter = None if config.filter is None else DocumentTemplate.compile(config.filter, "filter", "error")
        self._id = None if config.id is None else Template.compile(config.id, kind="text", missing="error")
        self._time_field = None if config.time_series is None else config.time_series.time_field
        self.id_prefix: str | None = None
        """The beginning of the `_id` of `exactly_once`, which the record's id follows."""
        self.has_own_ids = config.exactly_once or config.id is not None
        """Whether a record has the same `_id` in each attempt."""
        makers: dict[str, Callable[[Mapping[str, Any]], Operation]] = {
            "insert": self._insert, "update": self._update, "upsert": self._update, "replace": self._replace,
            "delete": self._delete,
        }  # fmt: skip
        self._make = makers[config.mode]
        self._is_plain = config.mode == "insert" and not (
            self._document or self.has_own_ids or self._time_field or self._rules.change_values
        )
        self._needs_records = config.exactly_once or any(name.startswith("_") for name in self._names())

    def plan(self, batch: Batch) -> Isolated[Operation]:
        """Return the operations of `batch` in order, and the records that have none."""
        if self._is_plain:
            documents = [{"_id": ObjectId(), **row} for row in batch.rows]
            # One call for all; the driver encodes them once more, which is less than encoding each alone.
            if are_encodable(documents):
                return Isolated(list(range(len(documents))), list(documents), ALL_STORED)
        columns = [record.columns() for record in batch.records] if self._needs_records else batch.rows
        return isolate(self._make, enumerate(columns))

    def _names(self) -> list[str]:
        parts = (self._document, self._filter, self._id)
        return [name for part in parts if part is not None for name in part.names]

    def _check_operators(self) -> bool:
        """Whether the document's template has update operators. Its own text decides, never the values of a row."""
        keys = () if self._document is None else self._document.keys
        operators = [key for key in keys if key.startswith("$")]
        if not operators:
            return False
        if len(operators) < len(keys) or self._mode not in ("update", "upsert"):
            raise ConfigError(
                f"`document` has the update operator {operators[0]}",
                remedy="use operators alone, with `mode: update` or `upsert`",
            )
        return True

    def _insert(self, columns: Mapping[str, Any]) -> RawBSONDocument:
        document = self._built(columns)
        if self._id is not None:
            document = {**document, "_id": self._own_id(columns)}
        elif self.id_prefix is not None:
            document = {**document, "_id": f"{self.id_prefix}-{columns['_id']}"}
        else:
            document = {"_id": ObjectId(), **document}
        if self._time_field is not None and document.get(self._time_field) is None:
            raise RejectError(f"{self._time_field}: the row has no value for the `time_field` of the time series")
        return RawBSONDocument(encoded(document))

    def _update(self, columns: Mapping[str, Any]) -> UpdateOne:
        found = self._matching(columns)
        document = self._built(columns)
        change = document if self._has_operators else {"$set": document}
        encoded({"q": found, "u": change})
        return UpdateOne(found, change, upsert=self._mode == "upsert")

    def _replace(self, columns: Mapping[str, Any]) -> ReplaceOne[Any]:
        found = self._matching(columns)
        document = self._built(columns)
        if self._id is not None:
            document = {**document, "_id": self._own_id(columns)}
        name = next((name for name in document if name.startswith("$")), None)
        if name is not None:
            raise RejectError(f"{name}: a field of a document may not begin with $; see the option `field_names`")
        encoded({"q": found, "u": document})
        return ReplaceOne(found, document, upsert=True)

    def _delete(self, columns: Mapping[str, Any]) -> DeleteOne:
        found = self._matching(columns)
        encoded(found)
        return DeleteOne(found)

    def _built(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        # The row alone: the record's own columns are for templates, and stored only where one names them.
        row: Mapping[str, Any] = getattr(columns, "row", columns)
        document = row if self._document is None else self._document.build(columns)
        if self._has_operators:
            return {
                operator: self._rules.applied(fields) if isinstance(fields, dict) else fields
                for operator, fields in document.items()
            }
        return self._rules.applied(document)

    def _matching(self, columns: Mapping[str, Any]) -> Mapping[str, Any]:
        if self._filter is None:
            return {"_id": self._own_id(columns)}
        found: Mapping[str, Any] = self._filter.build(columns)
        if not found:
            raise RejectError("filter: it is empty, and would match any document")
        return self._rules.applied(found)

    def _own_id(self, columns: Mapping[str, Any]) -> Any:
        value = self._rules.applied({"_id": self._id.value(columns) if self._id is not None else None})["_id"]
        if isinstance(value, (list, dict)) or value is None:
            raise RejectError(f"_id: expected a text, a number or bytes, found {shown(value)}")
        return value
