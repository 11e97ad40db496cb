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
    """The database file, relative to the file that names it; made where it is missing."""
    table: str | None = None
    """The table; each column of a row goes to the column of its name."""
    create_table: bool = True
    """Make a missing table from the first rows, with column types that fit their values."""
    add_columns: bool | None = None
    """Add columns that rows bring and the table lacks; as `create_table` unless set."""
    max_columns: Annotated[int, Field(ge=1, le=2000)] = 200
    """Most columns a table may grow to; rows that would need more are rejected."""
    mode: Literal["insert", "upsert"] = "insert"
    """`upsert` replaces the columns of the row that has the same `conflict_key`."""
    conflict_key: tuple[str, ...] = ()
    """Columns that identify a row. With `insert`, a row that is there already counts as delivered."""
    sql: str | None = None
    """A statement of your own with placeholders, instead of `table`: `INSERT INTO t (a, b) VALUES (${x}, ${y.z})`."""
    journal_mode: Literal["wal", "delete", "truncate", "persist"] = "wal"
    """SQLite's journal; `wal` lets others read while rows are written."""
    synchronous: Literal["full", "normal", "off"] = "full"
    """`full` survives a power cut; `normal` may lose the last transactions in one, `off` may damage the file."""
    busy_timeout: Duration = 5.0
    """Longest wait for another program that is writing to the same file."""
    exactly_once: bool = False
    """Store with the rows how far each lane is, in the table `_headgate_watermark`, and skip what comes again."""

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
