"""Options of the `sqlite` sink."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from connectors.sqlite.table import SqliteTableOptions
from engine.config.units import Duration
from engine.connector import ConnectorConfig
from engine.errors import ConfigError


class SqliteConfig(ConnectorConfig):
    """Options of the `sqlite` sink."""

    path: str
    """The database file, relative to the configuration file; created if it is missing."""
    table: str | None = None
    """The table. Each column of a row goes to the table column of its name."""
    create_table: bool = True
    """Create a missing table from the first rows, with column types that fit their values."""
    add_columns: bool | None = None
    """Add columns of rows that the table lacks. Default: as `create_table`."""
    max_columns: Annotated[int, Field(ge=1, le=2000)] = 200
    """Limit of columns of a growing table. Rows that need more are rejected."""
    mode: Literal["insert", "upsert"] = "insert"
    """`insert` adds rows, `upsert` replaces the columns of the row that has the same `conflict_key`."""
    conflict_key: tuple[str, ...] = ()
    """Columns that identify a row. With `insert`, a row whose key exists counts as delivered."""
    sql: str | None = None
    """Your own statement with placeholders, instead of `table`: `INSERT INTO t (a, b) VALUES (${x}, ${y.z})`."""
    journal_mode: Literal["wal", "delete", "truncate", "persist"] = "wal"
    """SQLite's journal mode. `wal` lets other programs read while rows are written."""
    synchronous: Literal["full", "normal", "off"] = "full"
    """SQLite's synchronous mode. In a power cut, `full` loses nothing, `normal` may lose the last transactions, `off`
    may damage the file."""
    busy_timeout: Duration = 5.0
    """Longest wait for a lock that another program holds on the file."""
    exactly_once: bool = False
    """Store the last sequence number of each lane with the rows, in the table `_headgate_watermark`, and skip records
    that were stored before."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other."""
        if (self.table is None) == (self.sql is None):
            raise ConfigError("a sqlite sink needs either `table` or `sql`", remedy="write one of the two")
        if self.mode == "upsert" and not self.conflict_key:
            raise ConfigError("`mode: upsert` needs a `conflict_key`", remedy="name the columns that identify a row")
        if self.sql is not None and self.conflict_key:
            raise ConfigError(
                "`conflict_key` belongs to `table`", remedy="write ON CONFLICT into `sql`, or use `table` instead"
            )

    def table_options(self) -> SqliteTableOptions:
        """Return what `SqliteTable` needs of these options."""
        return SqliteTableOptions(
            name=self.table or "",
            create=self.create_table,
            may_grow=self.create_table if self.add_columns is None else self.add_columns,
            columns_max=self.max_columns,
            is_upsert=self.mode == "upsert",
            conflict_key=self.conflict_key,
        )
