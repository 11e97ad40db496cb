"""Names of tables and columns: quoting, nearest names, and reasons of failures that name the table and the column."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches

from engine.errors import HoldError

NAME_CHARACTERS_MAX = 100
"""Characters of a name that a reason shows. Databases allow 63 to 128; devices can send names of any length."""


def no_table(table: str, tables: Iterable[str], code: str) -> HoldError:
    """Return the error for a missing table; `tables` are those there are."""
    return HoldError(
        f"there is no table {table} in this database{nearest(table, tables)}; create it, or set `create_table`",
        code=code,
    )


def no_column(table: str, column: str, columns: Iterable[str]) -> str:
    """Return the reason for a column that `table` lacks; `columns` are those it has."""
    return f"the table {table} has no column {shown_name(column)}{nearest(column, columns)}"


def no_value(table: str, column: str) -> str:
    """Return the reason for a row without a column that must have a value."""
    return f"the row has no value for the column {shown_name(column)}, which {table} needs"


def no_columns(table: str) -> str:
    """Return the reason for a row without any column."""
    return f"the row has no columns to store in {table}"


def computed_column(table: str, column: str) -> str:
    """Return the reason for a value of a generated column."""
    return f"the column {column} of {table} is computed by the database and takes no value"


def same_column(table: str, first: str, second: str) -> str:
    """Return the reason for two names of a row that the database takes for the same column."""
    return f"{shown_name(first)} and {shown_name(second)} are the same column of {table}"


def unusable_name(table: str, column: str) -> str:
    """Return the reason for a name that no column can have."""
    return f"{shown_name(column)!r} can't be a column of {table}: it holds a NUL character or a lone surrogate"


def no_unique_index(table: str, conflict_key: Sequence[str], code: str | None) -> HoldError:
    """Return the error for a `conflict_key` that the table has no unique index on."""
    names = ", ".join(conflict_key)
    return HoldError(f"the table {table} has no unique index on exactly its conflict_key ({names})", code=code)


def nearest(name: str, names: Iterable[str]) -> str:
    """Return a suggestion to append to a reason, or nothing where no name is close to `name`."""
    # The comparison takes time in proportion to the product of the lengths.
    near = get_close_matches(name, list(names), n=1) if len(name) <= NAME_CHARACTERS_MAX else []
    return f"; did you mean {near[0]}?" if near else ""


def quoted(name: str) -> str:
    """Return `name` as an SQL identifier, taken as written."""
    return '"' + name.replace('"', '""') + '"'


def shown_name(name: str) -> str:
    """Return a name as a reason shows it: cut where it is long."""
    return name if len(name) <= NAME_CHARACTERS_MAX else f"{name[:NAME_CHARACTERS_MAX]}..."


def is_encodable(name: str) -> bool:
    """Whether `name` is valid Unicode text; JSON can bring lone surrogates, which UTF-8 can't encode."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
