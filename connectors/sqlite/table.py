"""The table of an SQLite sink: its columns, created as rows bring them, and a statement for each set of columns."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from connectors._shared.planning import MisfitError, PlanCache, PlannedBatch, RowGroup, hold_if_all_misfit, neighbours
from connectors._shared.table import (
    computed_column,
    is_encodable,
    no_column,
    no_columns,
    no_table,
    no_unique_index,
    no_value,
    quoted,
    same_column,
    shown_name,
    unusable_name,
)
from connectors.sqlite.statement import (
    INTEGER_MAX,
    INTEGER_MIN,
    InsertStatement,
    SqliteStatement,
    explain,
    insert_into,
    rows_at_once,
)
from engine.connector import ALL_STORED, Failures
from engine.errors import HoldError, RejectError
from engine.model.record import Batch, Row


@dataclass(frozen=True, slots=True)
class SqliteTableOptions:
    """The sink's options about its table; their meaning is described there."""

    name: str
    create: bool
    may_grow: bool
    columns_max: int
    is_upsert: bool
    conflict_key: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Columns:
    """The columns of a table as SQLite describes them. Names are folded, as SQLite compares them."""

    names: Mapping[str, str]
    """Names as written, by their folded form; empty while there is no table."""
    numeric: frozenset[str]
    """Columns that turn any text that looks like a number into one."""
    generated: frozenset[str]
    """Columns that take no value."""
    required: frozenset[str]
    """Columns that need a value from the row: not null, and without a default."""


class SqliteTable:
    """Planner by the columns of a table, which it creates and extends where the options allow it."""

    def __init__(self, options: SqliteTableOptions) -> None:
        self._options = options
        self._name = options.name
        self._connection: sqlite3.Connection
        self._columns: _Columns | None = None
        self._last_columns: _Columns | None = None
        """The columns as they were read last, kept by `forget`."""
        self._has_fitted = False
        """Whether a row has fitted the table as it is, so that a misfit is the row's fault and not the rule's."""
        self._statements: PlanCache[InsertStatement] = PlanCache()

    def check(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.forget()
        names = self._read_columns().names
        if names:
            self._check_conflict_key(names)
        elif not self._options.create:
            raise self._no_table()

    def plan(self, batch: Batch) -> PlannedBatch[SqliteStatement]:
        rows = batch.rows
        # The usual batch has rows of equal columns. A new set of columns needs all its rows, for the columns' types.
        known = self._statements.known(tuple(rows[0]))
        if isinstance(known, InsertStatement) and (values := known.bind(rows)) is not None:
            return PlannedBatch([RowGroup(known, range(len(rows)), values)], ALL_STORED)
        groups: list[RowGroup[SqliteStatement]] = []
        failures = ALL_STORED
        for columns, indices, members in neighbours(rows):
            statement = self._statements.get(columns, partial(self._statement, members))
            if isinstance(statement, RejectError):
                failures |= Failures.of(indices, statement)
            else:
                groups.append(RowGroup(statement, indices, statement.bind(members) or ()))
        self._has_fitted = self._has_fitted or bool(groups)
        if not self._has_fitted:
            hold_if_all_misfit(failures, len(batch))
        return PlannedBatch(groups, failures)

    def forget(self) -> None:
        self._columns = None
        self._statements.clear()

    def _read_columns(self) -> _Columns:
        found = self._connection.execute(f"PRAGMA table_xinfo({quoted(self._name)})").fetchall()
        self._columns = columns = _Columns(
            names={folded(name): name for _, name, *_ in found},
            numeric=frozenset(folded(name) for _, name, declared, *_ in found if _is_numeric(declared)),
            generated=frozenset(folded(name) for _, name, *_, hidden in found if hidden in _GENERATED),
            required=frozenset(
                folded(name)
                for _, name, _, not_null, default, key, _ in found
                if not_null and default is None and not key
            ),
        )
        last, self._last_columns = self._last_columns, columns
        if last is not None and not (last.names.keys() <= columns.names.keys() and columns.required <= last.required):
            self._has_fitted = False
        return columns

    def _no_table(self) -> HoldError:
        tables = [name for (name,) in self._connection.execute("SELECT name FROM sqlite_schema WHERE type != 'index'")]
        return no_table(self._name, tables, "no_table")

    def _check_conflict_key(self, names: Mapping[str, str]) -> None:
        key = self._options.conflict_key
        if not key:
            return
        for name in key:
            if folded(name) not in names:
                raise HoldError(no_column(self._name, name, names.values()), code="no_column")
        try:
            explain(self._connection, insert_into(self._name, key) + self._on_conflict(key), len(key))
        except sqlite3.OperationalError as error:
            raise no_unique_index(self._name, key, error.sqlite_errorname) from error

    def _statement(self, rows: Sequence[Row], keys: tuple[str, ...]) -> InsertStatement:
        """Return the statement for `rows`, whose columns are `keys`; create the columns that the table lacks.

        Raise `RejectError` for keys that can't be columns, `MisfitError` for columns that may not be created.
        """
        columns = self._columns or self._read_columns()
        self._check_keys(keys, columns)
        missing = [key for key in keys if folded(key) not in columns.names]
        if missing:
            columns = self._create(missing, keys, rows, columns)
        self._check_required(keys, columns)
        conflict = self._on_conflict(keys) if self._options.is_upsert else ""
        return InsertStatement(
            insert_into(self._name, keys) + conflict,
            insert_into(self._name, keys, rows_at_once(len(keys))) + conflict,
            [(key, folded(key) in columns.numeric) for key in keys],
        )

    def _check_keys(self, keys: tuple[str, ...], columns: _Columns) -> None:
        if not keys:
            raise RejectError(no_columns(self._name))
        found: dict[str, str] = {}
        for key in keys:
            if "\0" in key or not is_encodable(key):
                raise RejectError(unusable_name(self._name, key))
            if folded(key) in found:
                raise RejectError(same_column(self._name, found[folded(key)], key))
            found[folded(key)] = key
        if generated := columns.generated.intersection(found):
            raise RejectError(computed_column(self._name, min(generated)))

    def _check_required(self, keys: tuple[str, ...], columns: _Columns) -> None:
        present = set(map(folded, keys))
        lacking = sorted(columns.required - present)
        lacking += [key for key in self._options.conflict_key if folded(key) not in present]
        if lacking:
            raise MisfitError(no_value(self._name, lacking[0]), code="no_column")

    def _create(self, missing: Sequence[str], keys: Sequence[str], rows: Sequence[Row], columns: _Columns) -> _Columns:
        """Create the `missing` columns, and the table if there is none. Return the columns there are then."""
        options = self._options
        if not columns.names and not options.create:
            raise self._no_table()
        if columns.names and not options.may_grow:
            raise MisfitError(no_column(self._name, missing[0], columns.names.values()), code="no_column")
        if len(columns.names) + len(missing) > options.columns_max:
            column = shown_name(missing[0])
            raise RejectError(f"{self._name} would grow past max_columns ({options.columns_max}) by {column}")
        definitions = [f"{quoted(key)} {_column_type(row[key] for row in rows)}".rstrip() for key in missing]
        if columns.names:
            for definition in definitions:
                self._connection.execute(f"ALTER TABLE {quoted(self._name)} ADD COLUMN {definition}")
        else:
            unique_key = options.conflict_key
            unique = [f"UNIQUE ({', '.join(map(quoted, unique_key))})"] if unique_key else []
            for name in unique_key:
                if folded(name) not in set(map(folded, keys)):
                    raise MisfitError(no_value(self._name, name), code="no_column")
            self._connection.execute(f"CREATE TABLE {quoted(self._name)} ({', '.join(definitions + unique)})")
        return self._read_columns()

    def _on_conflict(self, keys: tuple[str, ...]) -> str:
        """Return the clause for a row that is already there: the row's other columns replace the stored ones."""
        key = {folded(name) for name in self._options.conflict_key}
        changes = [f"{quoted(name)} = excluded.{quoted(name)}" for name in keys if folded(name) not in key]
        action = f"UPDATE SET {', '.join(changes)}" if changes else "NOTHING"
        return f" ON CONFLICT ({', '.join(map(quoted, self._options.conflict_key))}) DO {action}"


_ASCII_LOWER = {upper: upper + 32 for upper in range(ord("A"), ord("Z") + 1)}
_GENERATED = (2, 3)
"""Values of ``PRAGMA table_xinfo``'s last column for GENERATED ALWAYS columns, virtual and stored."""


def folded(name: str) -> str:
    """Return a form that is equal for names which SQLite takes for the same: those that differ in ASCII case alone."""
    return name.translate(_ASCII_LOWER)


_COLUMN_TYPES = {bool: "BOOLEAN", int: "INTEGER", float: "REAL", str: "TEXT", dict: "TEXT", list: "TEXT", bytes: "BLOB"}
_MIXED_TYPES = {frozenset({"INTEGER", "REAL"}): "REAL", frozenset({"TEXT", "BLOB"}): "TEXT"}


def _column_type(values: Iterable[Any]) -> str:
    """Return the declared type that fits all `values`; empty where their types differ too much, or all are null."""
    types = frozenset(_stored_type(value) for value in values if value is not None)
    return next(iter(types)) if len(types) == 1 else _MIXED_TYPES.get(types, "")


def _stored_type(value: Any) -> str:
    if type(value) is int and not INTEGER_MIN <= value <= INTEGER_MAX:
        return "TEXT"  # stored as its digits
    return _COLUMN_TYPES.get(type(value), "")


def _is_numeric(declared: str) -> bool:
    """Whether a column of this declared type has numeric affinity (SQLite, "Datatypes in SQLite", 3.1)."""
    words = declared.upper()
    if "INT" in words:
        return True
    return bool(words) and not any(word in words for word in ("CHAR", "CLOB", "TEXT", "BLOB"))
