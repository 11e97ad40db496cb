"""The sqlite sink: the tables it creates, conversion of values, bad rows, and the watermark."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from engine.connector import ALL_STORED
from engine.errors import ConfigError, DuplicateError, HoldError, NotConnectedError, RejectError, RetryableError
from engine.model.record import Row
from support.sinks.harness import NewSink, batch_of, write


def read(path: Path, sql: str) -> list[tuple[Any, ...]]:
    connection = sqlite3.connect(path)
    try:
        return connection.execute(sql).fetchall()
    finally:
        connection.close()


def declared(path: Path, table: str = "t") -> dict[str, str]:
    return {name: kind for _, name, kind, *_ in read(path, f"PRAGMA table_info({table})")}


@pytest.fixture
def database(tmp_path: Path) -> Path:
    return tmp_path / "plant.db"


def execute(path: Path, sql: str) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.executescript(sql)
    connection.close()


class TestTable:
    async def test_table_is_created_from_the_first_rows(self, new_sink: NewSink, database: Path) -> None:
        """A new user has no table yet."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        row = {"n": 1, "x": 1.5, "ok": True, "s": "a", "m": {"a": 1}, "l": [1], "b": b"\xff", "none": None}
        assert not await write(sink, batch_of([row]))
        assert declared(database) == {
            "n": "INTEGER", "x": "REAL", "ok": "BOOLEAN", "s": "TEXT", "m": "TEXT", "l": "TEXT", "b": "BLOB",
            "none": "",
        }  # fmt: skip
        assert read(database, "SELECT * FROM t") == [(1, 1.5, 1, "a", '{"a":1}', "[1]", b"\xff", None)]

    async def test_column_type_fits_all_first_rows(self, new_sink: NewSink, database: Path) -> None:
        """Integers may be followed by floats; a column of unrelated types is created without a type."""
        rows: list[Row] = [{"x": 1, "p": "text", "mixed": 1}, {"x": 1.5, "p": b"\xff", "mixed": "a"}]
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of(rows))
        assert declared(database) == {"x": "REAL", "p": "TEXT", "mixed": ""}

    async def test_columns_of_later_rows_are_added(self, new_sink: NewSink, database: Path) -> None:
        """A new sensor of a device must not require an ALTER TABLE by hand."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of([{"a": 1}]))
        rows: list[Row] = [{"a": 2, "b": "x"}, {"a": 3}, {"A": 4, "b": "y"}]
        assert not await write(sink, batch_of(rows, first_seq=2))
        assert read(database, "SELECT a, b FROM t ORDER BY rowid") == [(1, None), (2, "x"), (3, None), (4, "y")]

    async def test_table_does_not_grow_past_max_columns(self, new_sink: NewSink, database: Path) -> None:
        """A device that chooses column names must not make the table unusable for others."""
        sink = await new_sink("sqlite", path="plant.db", table="t", max_columns=2)
        failures = await write(sink, batch_of([{"a": 1, "b": 2}, {"a": 1, "c": 3}, {"a": 4, "b": 5}]))
        assert list(failures) == [1]
        assert isinstance(failures[1], RejectError)
        assert "max_columns (2)" in failures[1].message
        assert read(database, "SELECT a, b FROM t") == [(1, 2), (4, 5)]

    async def test_missing_table_holds_with_the_nearest_name(self, new_sink: NewSink, database: Path) -> None:
        """A mistyped table name is reported with the table that was probably meant."""
        execute(database, "CREATE TABLE readings (a)")
        sink = await new_sink("sqlite", path="plant.db", table="readigns", create_table=False, is_connected=False)
        with pytest.raises(HoldError, match="did you mean readings"):
            await sink.connect()

    async def test_unknown_column_of_all_rows_holds(self, new_sink: NewSink, database: Path) -> None:
        """An error in a rule, or in the table, must not dead-letter rows."""
        execute(database, "CREATE TABLE t (temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        with pytest.raises(HoldError, match="no column tmp; did you mean temp"):
            await write(sink, batch_of([{"tmp": 1}, {"tmp": 2}]))
        assert read(database, "SELECT * FROM t") == []

    async def test_unknown_column_rejects_its_row_once_a_row_has_fitted(
        self, new_sink: NewSink, database: Path
    ) -> None:
        """Column names may come from a payload; one device must not make all others wait."""
        execute(database, "CREATE TABLE t (temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        failures = await write(sink, batch_of([{"temp": 1}, {"tmp": 2}]))
        assert {index: error.message for index, error in failures.items()} == {
            1: "the table t has no column tmp; did you mean temp?"
        }
        failures = await write(sink, batch_of([{"tmp": 3}], first_seq=3))
        assert isinstance(failures[0], RejectError)
        assert read(database, "SELECT * FROM t") == [(1,)]

    async def test_renamed_column_holds(self, new_sink: NewSink, database: Path) -> None:
        """Rows that fitted before wait for the table to be corrected."""
        execute(database, "CREATE TABLE t (temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        await write(sink, batch_of([{"temp": 1}]))
        execute(database, "ALTER TABLE t RENAME COLUMN temp TO celsius")
        with pytest.raises(HoldError, match="no column temp"):
            await write(sink, batch_of([{"temp": 2}], first_seq=2))

    async def test_missing_value_of_a_not_null_column_holds(self, new_sink: NewSink, database: Path) -> None:
        """All rows would fail for the same reason: the rule is at fault."""
        execute(
            database, "CREATE TABLE t (id INTEGER PRIMARY KEY, device TEXT NOT NULL, at TEXT NOT NULL DEFAULT '', n)"
        )
        sink = await new_sink("sqlite", path="plant.db", table="t")
        with pytest.raises(HoldError, match="no value for the column device, which t needs"):
            await write(sink, batch_of([{"n": 1}]))
        assert not await write(sink, batch_of([{"n": 1, "device": "a"}]))

    @pytest.mark.parametrize("row", [{}, {"a": 1, "A": 2}, {"a\0b": 1}], ids=["none", "same twice", "a NUL"])
    async def test_impossible_columns_are_rejected(self, new_sink: NewSink, row: Row) -> None:
        """Column names may come from a payload."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        failures = await write(sink, batch_of([{"a": 1}, row, {"a": 2}]))
        assert list(failures) == [1]
        assert isinstance(failures[1], RejectError)

    async def test_column_names_are_quoted(self, new_sink: NewSink, database: Path) -> None:
        """Names can't inject SQL."""
        sink = await new_sink("sqlite", path="plant.db", table='odd "table"')
        await write(sink, batch_of([{'a"); DROP TABLE x; --': 1, "select": 2, "?": 3}]))
        assert read(database, 'SELECT * FROM "odd ""table"""') == [(1, 2, 3)]

    async def test_dropped_table_is_created_again(self, new_sink: NewSink, database: Path) -> None:
        """The sink reads the schema again instead of failing for ever."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of([{"a": 1}]))
        execute(database, "DROP TABLE t")
        assert not await write(sink, batch_of([{"a": 2}]))
        assert read(database, "SELECT a FROM t") == [(2,)]

    async def test_dropped_table_holds_without_create_table(self, new_sink: NewSink, database: Path) -> None:
        """A missing table that the sink must not create is reported."""
        execute(database, "CREATE TABLE t (a)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        await write(sink, batch_of([{"a": 1}]))
        execute(database, "DROP TABLE t")
        with pytest.raises(HoldError, match="there is no table t"):
            await write(sink, batch_of([{"a": 2}]))

    @pytest.mark.parametrize(
        ("setup", "words"),
        [
            ("CREATE TABLE b (a); CREATE VIEW t AS SELECT a FROM b", "it is a view"),
            (
                "CREATE TABLE t (a); CREATE TABLE g (x); CREATE TRIGGER r AFTER INSERT ON t BEGIN "
                "INSERT INTO g VALUES (new.a); END; DROP TABLE g",
                "no such table: main.g",
            ),
        ],
        ids=["view", "broken trigger"],
    )
    async def test_table_that_accepts_no_row_holds(
        self, new_sink: NewSink, database: Path, setup: str, words: str
    ) -> None:
        """Reading the schema again does not help, so the sink must not retry at full speed."""
        execute(database, setup)
        sink = await new_sink("sqlite", path="plant.db", table="t")
        with pytest.raises(HoldError, match=words):
            await write(sink, batch_of([{"a": 1}]))

    async def test_computed_column_rejects_a_value_for_it(self, new_sink: NewSink, database: Path) -> None:
        """PRAGMA table_info does not list generated columns, and they can't be added either."""
        execute(database, "CREATE TABLE t (a, b GENERATED ALWAYS AS (a * 2), c AS (a * 3) STORED)")
        sink = await new_sink("sqlite", path="plant.db", table="t")
        failures = await write(sink, batch_of([{"a": 1}, {"a": 2, "B": 4}, {"a": 3, "c": 9}]))
        assert {index: error.message for index, error in failures.items()} == {
            1: "the column b of t is computed by the database and takes no value",
            2: "the column c of t is computed by the database and takes no value",
        }  # fmt: skip
        assert read(database, "SELECT * FROM t") == [(1, 2, 3)]

    async def test_column_names_match_without_ascii_case(self, new_sink: NewSink, database: Path) -> None:
        """SQLite ignores the case of ASCII letters only."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        for row in ({"Ä": 1, "N": 1}, {"ä": 2, "n": 2}):
            assert not await write(sink, batch_of([row]))
        assert read(database, 'SELECT "Ä", "ä", n FROM t') == [(1, None, 1), (None, 2, 2)]

    async def test_removed_file_is_noticed(self, new_sink: NewSink, database: Path) -> None:
        """Rows written to an unlinked file would be lost silently."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of([{"a": 1}]))
        database.unlink()
        with pytest.raises(NotConnectedError, match="removed or replaced"):
            await write(sink, batch_of([{"a": 2}]))
        await sink.connect()
        await write(sink, batch_of([{"a": 2}]))
        assert read(database, "SELECT a FROM t") == [(2,)]


class TestValues:
    async def test_integers_past_64_bits_keep_their_digits(self, new_sink: NewSink, database: Path) -> None:
        """A rounded identifier or counter is wrong."""
        execute(database, "CREATE TABLE t (n INTEGER, s TEXT, any)")
        sink = await new_sink("sqlite", path="plant.db", table="t")
        large = 2**64 + 1
        rows: list[Row] = [{"n": 1, "s": "a", "any": 1}, {"n": large, "s": large, "any": -large}]
        assert not await write(sink, batch_of(rows))
        assert not await write(sink, batch_of(rows, first_seq=3))
        digits = str(large)
        assert read(database, "SELECT n, s, any FROM t")[1::2] == [(digits.encode(), digits, f"-{digits}")] * 2

    async def test_structures_in_a_column_do_not_change_its_other_values(
        self, new_sink: NewSink, database: Path
    ) -> None:
        """The first structure in a column changes the binding of later batches only."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        for start in (1, 4):
            rows: list[Row] = [{"v": 1}, {"v": [start]}, {"v": "x"}]
            assert not await write(sink, batch_of(rows, first_seq=start))
        assert [v for (v,) in read(database, "SELECT v FROM t")] == [1, "[1]", "x", 1, "[4]", "x"]


class TestConflicts:
    async def test_existing_conflict_key_counts_as_delivered(self, new_sink: NewSink, database: Path) -> None:
        """A batch that is repeated after a lost response must not become dead letters."""
        sink = await new_sink("sqlite", path="plant.db", table="t", conflict_key=["device", "at"])
        rows: list[Row] = [{"device": "a", "at": n, "v": n} for n in range(5)]
        assert not await write(sink, batch_of(rows[:3]))
        failures = await write(sink, batch_of(rows, first_seq=1))
        assert {index: type(error) for index, error in failures.items()} == dict.fromkeys(range(3), DuplicateError)
        assert read(database, "SELECT at FROM t") == [(n,) for n in range(5)]

    async def test_other_unique_column_rejects(self, new_sink: NewSink, database: Path) -> None:
        """Only the configured key identifies a row."""
        execute(database, "CREATE TABLE t (device PRIMARY KEY, serial UNIQUE)")
        sink = await new_sink("sqlite", path="plant.db", table="t", conflict_key=["device"])
        await write(sink, batch_of([{"device": "a", "serial": 1}]))
        failures = await write(sink, batch_of([{"device": "b", "serial": 1}], first_seq=2))
        assert type(failures[0]) is RejectError
        assert "t.serial" in failures[0].message

    async def test_upsert_replaces_only_the_columns_of_the_row(self, new_sink: NewSink, database: Path) -> None:
        """The table holds the latest values of each device; columns that a row lacks stay."""
        sink = await new_sink("sqlite", path="plant.db", table="t", mode="upsert", conflict_key=["device"])
        await write(sink, batch_of([{"device": "a", "temp": 1, "hum": 7}, {"device": "a", "temp": 2, "hum": 8}]))
        await write(sink, batch_of([{"device": "a", "temp": 3}, {"device": "b", "temp": 4}], first_seq=3))
        assert read(database, "SELECT device, temp, hum FROM t") == [("a", 3, 8), ("b", 4, None)]

    async def test_key_without_unique_index_holds(self, new_sink: NewSink, database: Path) -> None:
        """SQLite would refuse every row, or accept every duplicate."""
        execute(database, "CREATE TABLE t (device, temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", conflict_key=["device"], is_connected=False)
        with pytest.raises(HoldError, match="no unique index"):
            await sink.connect()


class TestOwnStatement:
    async def test_placeholders_are_bound(self, new_sink: NewSink, database: Path) -> None:
        """Values are never part of the statement's text."""
        execute(database, "CREATE TABLE t (d, x, m)")
        sql = "INSERT INTO t (d, x, m) VALUES (${device}, ${data.x}, ${data})"
        sink = await new_sink("sqlite", path="plant.db", sql=sql)
        rows: list[Row] = [{"device": "'); --", "data": {"x": 1.5}}, {"device": None, "data": {"x": 2**70}}]
        assert not await write(sink, batch_of(rows))
        assert read(database, "SELECT * FROM t") == [
            ("'); --", 1.5, '{"x":1.5}'),
            (None, str(2**70), f'{{"x":{2**70}}}'),
        ]

    async def test_statement_that_does_not_fit_holds(self, new_sink: NewSink, database: Path) -> None:
        """The statement is checked at connect."""
        execute(database, "CREATE TABLE t (d)")
        sink = await new_sink("sqlite", path="plant.db", sql="INSERT INTO t (e) VALUES (${e})", is_connected=False)
        with pytest.raises(HoldError, match="no column named e"):
            await sink.connect()

    async def test_value_that_an_sql_function_refuses_rejects_its_row(self, new_sink: NewSink, database: Path) -> None:
        """SQLite reports it with the code of a wrong statement, but the row is at fault."""
        execute(database, "CREATE TABLE t (d)")
        sink = await new_sink("sqlite", path="plant.db", sql="INSERT INTO t (d) VALUES (json(${d}))")
        failures = await write(sink, batch_of([{"d": "[1]"}, {"d": "{"}, {"d": "[2]"}]))
        assert {index: error.message for index, error in failures.items()} == {1: "malformed JSON"}
        assert read(database, "SELECT d FROM t") == [("[1]",), ("[2]",)]

    async def test_statement_that_ends_the_transaction_loses_no_row(self, new_sink: NewSink, database: Path) -> None:
        """ON CONFLICT ROLLBACK undoes the rows of other lanes in the same transaction; they must be stored again."""
        execute(database, "CREATE TABLE t (n UNIQUE ON CONFLICT ROLLBACK)")
        sink = await new_sink("sqlite", path="plant.db", table="t")
        good = batch_of([{"n": n} for n in range(10)], lane=0)
        bad = batch_of([{"n": 100}], lane=1)
        await write(sink, bad)
        answers: list[Any] = await asyncio.gather(
            *(write(sink, batch) for batch in (good, bad)), return_exceptions=True
        )
        assert answers[0] == ALL_STORED
        assert isinstance(answers[1][0], RejectError)
        assert sorted(n for (n,) in read(database, "SELECT n FROM t")) == [*range(10), 100]


class TestExactlyOnce:
    async def test_records_below_the_watermark_are_skipped(self, new_sink: NewSink, database: Path) -> None:
        """After a lost response the batch is repeated, perhaps with later records."""
        sink = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        rows: list[Row] = [{"n": n} for n in range(10)]
        assert not await write(sink, batch_of(rows[:6]))
        failures = await write(sink, batch_of(rows, first_seq=1))
        assert {index: type(error) for index, error in failures.items()} == dict.fromkeys(range(6), DuplicateError)
        assert read(database, "SELECT n FROM t") == [(n,) for n in range(10)]

    async def test_watermark_is_kept_per_lane_and_over_restarts(self, new_sink: NewSink, database: Path) -> None:
        """Sequence numbers count within a lane, and outlive the process."""
        first = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        await write(first, batch_of([{"n": 1}], lane=0))
        await first.close()
        second = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        assert not await write(second, batch_of([{"n": 2}], lane=1))
        assert list(await write(second, batch_of([{"n": 1}], lane=0))) == [0]
        assert read(database, "SELECT n FROM t") == [(1,), (2,)]

    async def test_new_journal_has_its_own_watermark(self, new_sink: NewSink, database: Path, tmp_path: Path) -> None:
        """After data_dir is deleted, numbers start at 1 again and must not be taken for the old ones."""
        first = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        await write(first, batch_of([{"n": n} for n in range(5)]))
        await first.close()
        (tmp_path / "data" / "identity").unlink()
        second = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        assert not await write(second, batch_of([{"n": 5}]))
        assert read(database, "SELECT count(*) FROM t") == [(6,)]


class TestTrouble:
    async def test_failed_commit_stores_nothing(self, new_sink: NewSink, database: Path) -> None:
        """The whole batch waits when the file has reached its largest size, as on a full disk."""
        sink = await new_sink("sqlite", path="plant.db", sql="INSERT INTO t (v) VALUES (${v})", is_connected=False)
        execute(database, "CREATE TABLE t (v)")
        await sink.connect()
        await sink._thread.call(lambda: sink._database._connection.execute("PRAGMA max_page_count = 3"))
        with pytest.raises(RetryableError, match="full") as caught:
            await write(sink, batch_of([{"v": "x" * 5000} for _ in range(10)]))
        assert caught.value.code == "SQLITE_FULL"
        assert read(database, "SELECT * FROM t") == []

    async def test_file_that_is_no_database_holds(self, new_sink: NewSink, database: Path) -> None:
        """A file of another format must be neither overwritten nor retried for ever."""
        database.write_text("these are notes, and no database at all\n" * 50)
        sink = await new_sink("sqlite", path="plant.db", table="t", is_connected=False)
        with pytest.raises(HoldError, match="not a database"):
            await sink.connect()

    async def test_folder_outside_the_project_is_not_created(self, new_sink: NewSink, tmp_path: Path) -> None:
        """A folder must not be created in place of a disk that is not mounted."""
        elsewhere = tmp_path.parent / f"{tmp_path.name}-disk" / "plant.db"
        sink = await new_sink("sqlite", path=str(elsewhere), table="t", is_connected=False)
        with pytest.raises(HoldError, match="mount its disk"):
            await sink.connect()
        assert not elsewhere.parent.exists()

    async def test_folder_in_the_project_is_created(self, new_sink: NewSink, tmp_path: Path) -> None:
        """`path: data/plant.db` works in a new project."""
        sink = await new_sink("sqlite", path="a/b/plant.db", table="t")
        await write(sink, batch_of([{"a": 1}]))
        assert (tmp_path / "a" / "b" / "plant.db").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "either `table` or `sql`"),
        ({"table": "t", "sql": "INSERT INTO t VALUES (1)"}, "either `table` or `sql`"),
        ({"table": "t", "mode": "upsert"}, "needs a `conflict_key`"),
        ({"sql": "INSERT INTO t VALUES (1)", "conflict_key": ["a"]}, "belongs to `table`"),
    ],
)
async def test_options_that_contradict_each_other(new_sink: NewSink, options: dict[str, Any], message: str) -> None:
    """`headgate check` reports it before anything starts."""
    with pytest.raises(ConfigError, match=message):
        await new_sink("sqlite", path="plant.db", is_connected=False, **options)
