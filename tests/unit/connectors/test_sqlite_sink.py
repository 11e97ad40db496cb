"""The sqlite sink: the table it makes, what it does with values and bad rows, and how it counts what it has."""

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
    async def test_is_made_from_the_first_rows(self, new_sink: NewSink, database: Path) -> None:
        """A first user has no table, and should not need one."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        row = {"n": 1, "x": 1.5, "ok": True, "s": "a", "m": {"a": 1}, "l": [1], "b": b"\xff", "none": None}
        assert not await write(sink, batch_of([row]))
        assert declared(database) == {
            "n": "INTEGER", "x": "REAL", "ok": "BOOLEAN", "s": "TEXT", "m": "TEXT", "l": "TEXT", "b": "BLOB",
            "none": "",
        }  # fmt: skip
        assert read(database, "SELECT * FROM t") == [(1, 1.5, 1, "a", '{"a":1}', "[1]", b"\xff", None)]

    async def test_column_type_fits_all_first_rows(self, new_sink: NewSink, database: Path) -> None:
        """A column that begins with a whole number may go on with others; too different ones get no type at all."""
        rows: list[Row] = [{"x": 1, "p": "text", "mixed": 1}, {"x": 1.5, "p": b"\xff", "mixed": "a"}]
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of(rows))
        assert declared(database) == {"x": "REAL", "p": "TEXT", "mixed": ""}

    async def test_grows_columns_that_later_rows_bring(self, new_sink: NewSink, database: Path) -> None:
        """A device gets a new sensor; nobody wants to alter tables for it."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of([{"a": 1}]))
        rows: list[Row] = [{"a": 2, "b": "x"}, {"a": 3}, {"A": 4, "b": "y"}]
        assert not await write(sink, batch_of(rows, first_seq=2))
        assert read(database, "SELECT a, b FROM t ORDER BY rowid") == [(1, None), (2, "x"), (3, None), (4, "y")]

    async def test_does_not_grow_past_its_limit(self, new_sink: NewSink, database: Path) -> None:
        """A device that names its own columns must not make the table unusable for all others."""
        sink = await new_sink("sqlite", path="plant.db", table="t", max_columns=2)
        failures = await write(sink, batch_of([{"a": 1, "b": 2}, {"a": 1, "c": 3}, {"a": 4, "b": 5}]))
        assert list(failures) == [1]
        assert isinstance(failures[1], RejectError)
        assert "max_columns (2)" in failures[1].message
        assert read(database, "SELECT a, b FROM t") == [(1, 2), (4, 5)]

    async def test_missing_table_holds_with_the_nearest_name(self, new_sink: NewSink, database: Path) -> None:
        """Who manages tables by hand mistypes their names by hand, too."""
        execute(database, "CREATE TABLE readings (a)")
        sink = await new_sink("sqlite", path="plant.db", table="readigns", create_table=False, is_connected=False)
        with pytest.raises(HoldError, match="did you mean readings"):
            await sink.connect()

    async def test_column_that_no_row_finds_in_the_table_holds(self, new_sink: NewSink, database: Path) -> None:
        """A mistake in a rule, or in the table, must not drop rows."""
        execute(database, "CREATE TABLE t (temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        with pytest.raises(HoldError, match="no column tmp; did you mean temp"):
            await write(sink, batch_of([{"tmp": 1}, {"tmp": 2}]))
        assert read(database, "SELECT * FROM t") == []

    async def test_unknown_column_is_its_rows_fault_once_rows_have_fitted(
        self, new_sink: NewSink, database: Path
    ) -> None:
        """Column names may come out of a payload; one device must not make all others wait."""
        execute(database, "CREATE TABLE t (temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        failures = await write(sink, batch_of([{"temp": 1}, {"tmp": 2}]))
        assert {index: error.message for index, error in failures.items()} == {
            1: "the table t has no column tmp; did you mean temp?"
        }
        failures = await write(sink, batch_of([{"tmp": 3}], first_seq=3))
        assert isinstance(failures[0], RejectError)
        assert read(database, "SELECT * FROM t") == [(1,)]

    async def test_column_that_was_renamed_holds(self, new_sink: NewSink, database: Path) -> None:
        """Rows that fitted before must wait for the table to be put right."""
        execute(database, "CREATE TABLE t (temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", create_table=False)
        await write(sink, batch_of([{"temp": 1}]))
        execute(database, "ALTER TABLE t RENAME COLUMN temp TO celsius")
        with pytest.raises(HoldError, match="no column temp"):
            await write(sink, batch_of([{"temp": 2}], first_seq=2))

    async def test_column_that_must_not_be_null_is_asked_for(self, new_sink: NewSink, database: Path) -> None:
        """Every row would be refused for the same reason, which is the rule's and no row's."""
        execute(
            database, "CREATE TABLE t (id INTEGER PRIMARY KEY, device TEXT NOT NULL, at TEXT NOT NULL DEFAULT '', n)"
        )
        sink = await new_sink("sqlite", path="plant.db", table="t")
        with pytest.raises(HoldError, match="no value for the column device, which t needs"):
            await write(sink, batch_of([{"n": 1}]))
        assert not await write(sink, batch_of([{"n": 1, "device": "a"}]))

    @pytest.mark.parametrize("row", [{}, {"a": 1, "A": 2}, {"a\0b": 1}], ids=["none", "same twice", "a NUL"])
    async def test_impossible_columns_are_rejected(self, new_sink: NewSink, row: Row) -> None:
        """Column names may come out of a payload."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        failures = await write(sink, batch_of([{"a": 1}, row, {"a": 2}]))
        assert list(failures) == [1]
        assert isinstance(failures[1], RejectError)

    async def test_names_are_names_whatever_they_hold(self, new_sink: NewSink, database: Path) -> None:
        """Names can't break out of the statement."""
        sink = await new_sink("sqlite", path="plant.db", table='odd "table"')
        await write(sink, batch_of([{'a"); DROP TABLE x; --': 1, "select": 2, "?": 3}]))
        assert read(database, 'SELECT * FROM "odd ""table"""') == [(1, 2, 3)]

    async def test_is_made_again_when_somebody_drops_it(self, new_sink: NewSink, database: Path) -> None:
        """The sink looks anew instead of failing for ever."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        await write(sink, batch_of([{"a": 1}]))
        execute(database, "DROP TABLE t")
        assert not await write(sink, batch_of([{"a": 2}]))
        assert read(database, "SELECT a FROM t") == [(2,)]

    async def test_is_not_made_again_where_that_is_not_wanted(self, new_sink: NewSink, database: Path) -> None:
        """Who makes tables by hand wants to hear that one is gone."""
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
    async def test_table_that_takes_nothing_holds(
        self, new_sink: NewSink, database: Path, setup: str, words: str
    ) -> None:
        """Looking at it anew, time and again at full speed, does not mend it."""
        execute(database, setup)
        sink = await new_sink("sqlite", path="plant.db", table="t")
        with pytest.raises(HoldError, match=words):
            await write(sink, batch_of([{"a": 1}]))

    async def test_computed_column_rejects_a_value_for_it(self, new_sink: NewSink, database: Path) -> None:
        """It is not among the columns that SQLite lists at first asking, and can't be added either."""
        execute(database, "CREATE TABLE t (a, b GENERATED ALWAYS AS (a * 2), c AS (a * 3) STORED)")
        sink = await new_sink("sqlite", path="plant.db", table="t")
        failures = await write(sink, batch_of([{"a": 1}, {"a": 2, "B": 4}, {"a": 3, "c": 9}]))
        assert {index: error.message for index, error in failures.items()} == {
            1: "the column b of t is computed by the database and takes no value",
            2: "the column c of t is computed by the database and takes no value",
        }  # fmt: skip
        assert read(database, "SELECT * FROM t") == [(1, 2, 3)]

    async def test_names_are_the_same_where_sqlite_says_so(self, new_sink: NewSink, database: Path) -> None:
        """It compares the letters of ASCII without case, and no others."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        for row in ({"Ä": 1, "N": 1}, {"ä": 2, "n": 2}):
            assert not await write(sink, batch_of([row]))
        assert read(database, 'SELECT "Ä", "ä", n FROM t') == [(1, None, 1), (None, 2, 2)]

    async def test_removed_file_is_noticed(self, new_sink: NewSink, database: Path) -> None:
        """Rows written to a file that has no name any more would be lost in silence."""
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
        """Identifiers and counters are integers; a rounded one is a wrong one."""
        execute(database, "CREATE TABLE t (n INTEGER, s TEXT, any)")
        sink = await new_sink("sqlite", path="plant.db", table="t")
        large = 2**64 + 1
        rows: list[Row] = [{"n": 1, "s": "a", "any": 1}, {"n": large, "s": large, "any": -large}]
        assert not await write(sink, batch_of(rows))
        assert not await write(sink, batch_of(rows, first_seq=3))
        digits = str(large)
        assert read(database, "SELECT n, s, any FROM t")[1::2] == [(digits.encode(), digits, f"-{digits}")] * 2

    async def test_structures_in_a_column_leave_its_other_values_alone(self, new_sink: NewSink, database: Path) -> None:
        """The first structure in a column changes how later batches are bound, and nothing else."""
        sink = await new_sink("sqlite", path="plant.db", table="t")
        for start in (1, 4):
            rows: list[Row] = [{"v": 1}, {"v": [start]}, {"v": "x"}]
            assert not await write(sink, batch_of(rows, first_seq=start))
        assert [v for (v,) in read(database, "SELECT v FROM t")] == [1, "[1]", "x", 1, "[4]", "x"]


class TestConflicts:
    async def test_row_that_is_there_counts_as_delivered(self, new_sink: NewSink, database: Path) -> None:
        """A batch that comes again after a lost answer must not become dead letters."""
        sink = await new_sink("sqlite", path="plant.db", table="t", conflict_key=["device", "at"])
        rows: list[Row] = [{"device": "a", "at": n, "v": n} for n in range(5)]
        assert not await write(sink, batch_of(rows[:3]))
        failures = await write(sink, batch_of(rows, first_seq=1))
        assert {index: type(error) for index, error in failures.items()} == dict.fromkeys(range(3), DuplicateError)
        assert read(database, "SELECT at FROM t") == [(n,) for n in range(5)]

    async def test_other_unique_column_rejects(self, new_sink: NewSink, database: Path) -> None:
        """Only the key that was named says that a row is the same."""
        execute(database, "CREATE TABLE t (device PRIMARY KEY, serial UNIQUE)")
        sink = await new_sink("sqlite", path="plant.db", table="t", conflict_key=["device"])
        await write(sink, batch_of([{"device": "a", "serial": 1}]))
        failures = await write(sink, batch_of([{"device": "b", "serial": 1}], first_seq=2))
        assert type(failures[0]) is RejectError
        assert "t.serial" in failures[0].message

    async def test_upsert_replaces_the_columns_it_brings(self, new_sink: NewSink, database: Path) -> None:
        """The table shows the latest of each device; what a row does not bring stays."""
        sink = await new_sink("sqlite", path="plant.db", table="t", mode="upsert", conflict_key=["device"])
        await write(sink, batch_of([{"device": "a", "temp": 1, "hum": 7}, {"device": "a", "temp": 2, "hum": 8}]))
        await write(sink, batch_of([{"device": "a", "temp": 3}, {"device": "b", "temp": 4}], first_seq=3))
        assert read(database, "SELECT device, temp, hum FROM t") == [("a", 3, 8), ("b", 4, None)]

    async def test_key_without_unique_index_holds(self, new_sink: NewSink, database: Path) -> None:
        """SQLite would refuse every row, or worse, take every duplicate."""
        execute(database, "CREATE TABLE t (device, temp)")
        sink = await new_sink("sqlite", path="plant.db", table="t", conflict_key=["device"], is_connected=False)
        with pytest.raises(HoldError, match="no unique index"):
            await sink.connect()


class TestOwnStatement:
    async def test_placeholders_are_bound(self, new_sink: NewSink, database: Path) -> None:
        """Values never become part of the statement's text."""
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
        """It is checked before the first row comes."""
        execute(database, "CREATE TABLE t (d)")
        sink = await new_sink("sqlite", path="plant.db", sql="INSERT INTO t (e) VALUES (${e})", is_connected=False)
        with pytest.raises(HoldError, match="no column named e"):
            await sink.connect()

    async def test_value_a_function_refuses_rejects_its_row(self, new_sink: NewSink, database: Path) -> None:
        """SQLite reports it like a wrong statement; it is the row's fault all the same."""
        execute(database, "CREATE TABLE t (d)")
        sink = await new_sink("sqlite", path="plant.db", sql="INSERT INTO t (d) VALUES (json(${d}))")
        failures = await write(sink, batch_of([{"d": "[1]"}, {"d": "{"}, {"d": "[2]"}]))
        assert {index: error.message for index, error in failures.items()} == {1: "malformed JSON"}
        assert read(database, "SELECT d FROM t") == [("[1]",), ("[2]",)]

    async def test_statement_that_ends_the_transaction_loses_nothing(self, new_sink: NewSink, database: Path) -> None:
        """ON CONFLICT ROLLBACK undoes what other lanes had in the same transaction; they must be stored again."""
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
    async def test_what_is_stored_is_skipped(self, new_sink: NewSink, database: Path) -> None:
        """The answer was lost, the batch comes again, maybe with more behind it."""
        sink = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        rows: list[Row] = [{"n": n} for n in range(10)]
        assert not await write(sink, batch_of(rows[:6]))
        failures = await write(sink, batch_of(rows, first_seq=1))
        assert {index: type(error) for index, error in failures.items()} == dict.fromkeys(range(6), DuplicateError)
        assert read(database, "SELECT n FROM t") == [(n,) for n in range(10)]

    async def test_lanes_count_apart_and_restarts_remember(self, new_sink: NewSink, database: Path) -> None:
        """Numbers mean something within one lane only, and longer than a process lives."""
        first = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        await write(first, batch_of([{"n": 1}], lane=0))
        await first.close()
        second = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        assert not await write(second, batch_of([{"n": 2}], lane=1))
        assert list(await write(second, batch_of([{"n": 1}], lane=0))) == [0]
        assert read(database, "SELECT n FROM t") == [(1,), (2,)]

    async def test_new_journal_begins_anew(self, new_sink: NewSink, database: Path, tmp_path: Path) -> None:
        """Whoever deletes data_dir gets numbers from 1 again; they must not be taken for the old ones."""
        first = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        await write(first, batch_of([{"n": n} for n in range(5)]))
        await first.close()
        (tmp_path / "data" / "identity").unlink()
        second = await new_sink("sqlite", path="plant.db", table="t", exactly_once=True)
        assert not await write(second, batch_of([{"n": 5}]))
        assert read(database, "SELECT count(*) FROM t") == [(6,)]


class TestTrouble:
    async def test_failed_commit_stores_nothing(self, new_sink: NewSink, database: Path) -> None:
        """The file has reached its largest size, as a full disk would have it: all of the batch waits."""
        sink = await new_sink("sqlite", path="plant.db", sql="INSERT INTO t (v) VALUES (${v})", is_connected=False)
        execute(database, "CREATE TABLE t (v)")
        await sink.connect()
        await sink._thread.call(lambda: sink._database._connection.execute("PRAGMA max_page_count = 3"))
        with pytest.raises(RetryableError, match="full") as caught:
            await write(sink, batch_of([{"v": "x" * 5000} for _ in range(10)]))
        assert caught.value.code == "SQLITE_FULL"
        assert read(database, "SELECT * FROM t") == []

    async def test_file_that_is_no_database_holds(self, new_sink: NewSink, database: Path) -> None:
        """Somebody's notes must not be overwritten, nor retried for ever."""
        database.write_text("these are notes, and no database at all\n" * 50)
        sink = await new_sink("sqlite", path="plant.db", table="t", is_connected=False)
        with pytest.raises(HoldError, match="not a database"):
            await sink.connect()

    async def test_folder_outside_the_project_is_not_made(self, new_sink: NewSink, tmp_path: Path) -> None:
        """A disk that is not mounted must not be replaced by a folder of the same name."""
        elsewhere = tmp_path.parent / f"{tmp_path.name}-disk" / "plant.db"
        sink = await new_sink("sqlite", path=str(elsewhere), table="t", is_connected=False)
        with pytest.raises(HoldError, match="mount its disk"):
            await sink.connect()
        assert not elsewhere.parent.exists()

    async def test_folder_in_the_project_is_made(self, new_sink: NewSink, tmp_path: Path) -> None:
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
    """`headgate check` says so before anything starts."""
    with pytest.raises(ConfigError, match=message):
        await new_sink("sqlite", path="plant.db", is_connected=False, **options)
