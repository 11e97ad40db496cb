"""The file sink: lines, rotation, torn ends, and files that are moved away under it."""

from __future__ import annotations

import gzip
import json
import os
import threading
from pathlib import Path
from typing import Any

import pytest

from engine.errors import ConfigError, HoldError, RejectError, RetryableError
from engine.model.record import Row
from support.sinks.harness import NewSink, batch_of, write
from support.wait import wait_until


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def numbered(start: int, stop: int) -> list[Row]:
    return [{"n": n} for n in range(start, stop)]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "readings.jsonl"


def rotated(path: Path) -> list[Path]:
    return sorted(each for each in path.parent.glob("readings-*"))


class TestLines:
    async def test_lines_follow_the_template(self, new_sink: NewSink, tmp_path: Path) -> None:
        """Lines can follow an existing log format."""
        sink = await new_sink("file", path="a.log", format="template", template="${_rule} ${n}: ${text}")
        await write(sink, batch_of([{"n": 1, "text": "grün"}, {"n": 2, "text": "b"}]))
        assert (tmp_path / "a.log").read_text() == "hot 1: grün\nhot 2: b\n"

    async def test_row_is_written_to_the_file_of_its_rendered_path(self, new_sink: NewSink, tmp_path: Path) -> None:
        """One file for each device; folders are created as devices appear."""
        sink = await new_sink("file", path="data/${d}/x.jsonl", max_open_files=2)
        rows: list[Row] = [{"d": "abc"[n % 3], "n": n} for n in range(12)]
        assert not await write(sink, batch_of(rows))
        for number, device in enumerate("abc"):
            assert [row["n"] for row in lines(tmp_path / "data" / device / "x.jsonl")] == [*range(number, 12, 3)]

    @pytest.mark.parametrize("name", ["../../outside", "a/../../b", None], ids=["up", "up later", "missing"])
    async def test_rendered_path_cannot_leave_the_folder(
        self, new_sink: NewSink, tmp_path: Path, name: str | None
    ) -> None:
        """The client chooses its client id."""
        sink = await new_sink("file", path="data/${d}.jsonl")
        row = {"n": 1} if name is None else {"d": name, "n": 1}
        failures = await write(sink, batch_of([{"d": "good", "n": 0}, row]))
        assert {index: isinstance(error, RejectError) for index, error in failures.items()} == {1: True}
        assert [each.name for each in tmp_path.rglob("*.jsonl")] == ["good.jsonl"]

    @pytest.mark.parametrize("names", [("a", "a/b"), ("a/b", "a"), ("a", "a/b/c")], ids="/".join)
    async def test_path_that_uses_a_file_as_a_folder_rejects_its_row(
        self, new_sink: NewSink, tmp_path: Path, names: tuple[str, str]
    ) -> None:
        """Clients may be called `a` and `a/b`; neither may hold the rows of all others."""
        sink = await new_sink("file", path="data/${d}")
        assert not await write(sink, batch_of([{"d": names[0]}]))
        failures = await write(sink, batch_of([{"d": "x"}, {"d": names[1]}, {"d": "y"}]))
        assert {index: type(error) for index, error in failures.items()} == {1: RejectError}
        assert (tmp_path / "data" / "x").exists()
        assert (tmp_path / "data" / "y").exists()

    async def test_file_in_place_of_the_folder_holds(self, new_sink: NewSink, tmp_path: Path) -> None:
        """The fixed part of the template is a configuration error."""
        (tmp_path / "data").write_text("")
        sink = await new_sink("file", path="data/${d}.jsonl")
        with pytest.raises(HoldError, match="data"):
            await write(sink, batch_of([{"d": "a"}]))

    async def test_too_long_file_name_rejects_its_row(self, new_sink: NewSink, tmp_path: Path) -> None:
        """The file system never accepts it."""
        sink = await new_sink("file", path="data/${d}.jsonl")
        failures = await write(sink, batch_of([{"d": "x" * 300, "n": 0}, {"d": "good", "n": 1}]))
        assert {index: isinstance(error, RejectError) for index, error in failures.items()} == {0: True}
        assert lines(tmp_path / "data" / "good.jsonl") == [{"d": "good", "n": 1}]


class TestRotation:
    async def test_rotation_by_size_keeps_the_newest_files(self, new_sink: NewSink, path: Path) -> None:
        """The disk of a gateway is small, and the newest rows matter most."""
        sink = await new_sink("file", path="readings.jsonl", max_file_size=100, max_files=3)
        for start in range(0, 60, 10):
            assert not await write(sink, batch_of(numbered(start, start + 10)))
        assert lines(path) == numbered(50, 60)
        assert [lines(each) for each in rotated(path)] == [numbered(n, n + 10) for n in (20, 30, 40)]

    async def test_rotation_by_hour_uses_the_time_zone(self, new_sink: NewSink, path: Path, clock: Any) -> None:
        """A day ends at midnight in the configured zone."""
        sink = await new_sink("file", path="readings.jsonl", rotate="day", timezone="Asia/Kolkata")
        await write(sink, batch_of(numbered(0, 1)))
        os.utime(path, (clock.now_s, clock.now_s))
        clock.now_s += 4 * 3600  # 23:30 there
        await write(sink, batch_of(numbered(1, 2)))
        os.utime(path, (clock.now_s, clock.now_s))
        clock.now_s += 3600  # 00:30
        await write(sink, batch_of(numbered(2, 3)))
        assert [each.name for each in rotated(path)] == ["readings-20260131T233000-0001.jsonl"]
        assert lines(rotated(path)[0]) == numbered(0, 2)
        assert lines(path) == numbered(2, 3)

    async def test_file_of_an_earlier_day_is_rotated_after_a_restart(
        self, new_sink: NewSink, path: Path, clock: Any
    ) -> None:
        """The day of a file is read from the file, not kept in memory."""
        path.write_text('{"n":0}\n')
        os.utime(path, (clock.now_s - 86400, clock.now_s - 86400))
        sink = await new_sink("file", path="readings.jsonl", rotate="day")
        await write(sink, batch_of(numbered(1, 2)))
        assert [lines(each) for each in rotated(path)] == [numbered(0, 1)]
        assert lines(path) == numbered(1, 2)

    async def test_rotated_files_are_compressed(self, new_sink: NewSink, path: Path) -> None:
        """Text compresses ten to one, and a rotated file does not change."""
        sink = await new_sink("file", path="readings.jsonl", max_file_size=50, compress_rotated="gzip")
        for start in (0, 10, 20):
            await write(sink, batch_of(numbered(start, start + 10)))
        wait_until(lambda: [each.suffix for each in rotated(path)] == [".gz", ".gz"], 10, "both are compressed")
        packed = [
            json.loads(line) for each in rotated(path) for line in gzip.decompress(each.read_bytes()).splitlines()
        ]
        assert packed + lines(path) == numbered(0, 30)

    async def test_interrupted_compression_is_done_at_the_next_rotation(self, new_sink: NewSink, path: Path) -> None:
        """A kill leaves a partial `.gz`, and the rows in the uncompressed file."""
        old = path.with_name("readings-20260101T000000-0001.jsonl")
        old.write_text('{"n":0}\n')
        old.with_name(f"{old.name}.gz.part").write_bytes(b"half")
        sink = await new_sink("file", path="readings.jsonl", max_file_size=10, compress_rotated="gzip")
        for n in range(2):
            await write(sink, batch_of(numbered(n, n + 1)))
        wait_until(lambda: old.with_name(f"{old.name}.gz").exists() and not old.exists(), 10, "it is compressed")
        assert gzip.decompress(old.with_name(f"{old.name}.gz").read_bytes()) == b'{"n":0}\n'


class TestEnds:
    async def test_torn_last_line_is_cut_off(self, new_sink: NewSink, path: Path) -> None:
        """Its record did not count as delivered and is written again; half a line would corrupt the file."""
        path.write_bytes(b'{"n":0}\n{"n":1,"te')
        sink = await new_sink("file", path="readings.jsonl")
        await write(sink, batch_of(numbered(1, 2)))
        assert lines(path) == numbered(0, 2)

    async def test_torn_line_longer_than_a_block_is_cut_off(self, new_sink: NewSink, path: Path) -> None:
        """A record may be larger than the block that the file is read in."""
        path.write_bytes(b'{"n":0}\n{"n":"' + b"x" * 200_000)
        sink = await new_sink("file", path="readings.jsonl")
        await write(sink, batch_of(numbered(1, 2)))
        assert lines(path) == numbered(0, 2)

    async def test_whole_value_without_line_end_is_kept(self, new_sink: NewSink, path: Path) -> None:
        """An editor may have saved the file without it."""
        path.write_bytes(b'{"n":0}\n{"n":1}')
        sink = await new_sink("file", path="readings.jsonl")
        await write(sink, batch_of(numbered(2, 3)))
        assert lines(path) == numbered(0, 3)

    async def test_write_that_fails_half_way_leaves_no_torn_line(
        self, new_sink: NewSink, path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A disk that fills up in the middle of a batch must not leave half a line before the next one."""
        sink = await new_sink("file", path="readings.jsonl")
        await write(sink, batch_of(numbered(0, 10)))
        real, left = os.write, [50]

        def write_some(descriptor: int, data: memoryview) -> int:
            if left[0] == 0:
                raise OSError(28, "No space left on device")
            count = real(descriptor, data[: left[0]])
            left[0] -= count
            return count

        with monkeypatch.context() as patch:
            patch.setattr("connectors.file.appender.os.write", write_some)
            with pytest.raises(RetryableError, match="No space left") as caught:
                await write(sink, batch_of(numbered(10, 20)))
        assert caught.value.code == "ENOSPC"
        assert lines(path) == numbered(0, 10)
        await write(sink, batch_of(numbered(10, 20)))
        assert lines(path) == numbered(0, 20)

    async def test_file_that_was_moved_away_is_created_again(self, new_sink: NewSink, path: Path) -> None:
        """logrotate and people move files; later rows must not go to the moved one."""
        sink = await new_sink("file", path="readings.jsonl")
        await write(sink, batch_of(numbered(0, 1)))
        moved = path.rename(path.with_name("taken"))
        await write(sink, batch_of(numbered(1, 2)))
        assert (lines(moved), lines(path)) == (numbered(0, 1), numbered(1, 2))

    async def test_folder_in_place_of_the_file_holds(self, new_sink: NewSink, path: Path) -> None:
        """A retry can't succeed until somebody removes the folder."""
        path.mkdir()
        sink = await new_sink("file", path="readings.jsonl", is_connected=False)
        with pytest.raises(HoldError):
            await sink.connect()


class TestFsync:
    @pytest.fixture
    def synced(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Sizes of the file at each fsync."""
        sizes: list[int] = []
        real = os.fdatasync

        def fdatasync(descriptor: int) -> None:
            real(descriptor)
            sizes.append(os.fstat(descriptor).st_size)

        monkeypatch.setattr("connectors.file.appender.os.fdatasync", fdatasync)
        return sizes

    async def test_always_syncs_before_rows_count_as_delivered(
        self, new_sink: NewSink, path: Path, synced: list[int]
    ) -> None:
        """A record that is reported as delivered is deleted from the journal."""
        sink = await new_sink("file", path="readings.jsonl", fsync="always")
        await write(sink, batch_of(numbered(0, 5)))
        assert synced == [path.stat().st_size]

    async def test_interval_syncs_within_the_interval(
        self, new_sink: NewSink, path: Path, synced: list[int], clock: Any
    ) -> None:
        """The sync does not depend on a further row."""
        sink = await new_sink("file", path="readings.jsonl", fsync_interval="20ms")
        await write(sink, batch_of(numbered(0, 5)))
        assert synced == []
        clock.now_s += 1
        wait_until(lambda: synced, 10, "the file is synced")
        assert synced == [path.stat().st_size]

    async def test_close_syncs(self, new_sink: NewSink, path: Path, synced: list[int]) -> None:
        """After a clean stop, all rows are on disk."""
        sink = await new_sink("file", path="readings.jsonl", fsync_interval="1h")
        await write(sink, batch_of(numbered(0, 5)))
        await sink.close()
        assert synced == [path.stat().st_size]

    async def test_never_does_not_sync(self, new_sink: NewSink, synced: list[int]) -> None:
        """For disks that sync slowly, and rows that may be lost."""
        sink = await new_sink("file", path="readings.jsonl", fsync="never")
        await write(sink, batch_of(numbered(0, 5)))
        await sink.close()
        assert synced == []


async def test_batches_are_written_off_the_loop(new_sink: NewSink, monkeypatch: pytest.MonkeyPatch) -> None:
    """A slow disk must not block the event loop."""
    writers: list[str] = []
    real = os.write

    def write_some(descriptor: int, data: memoryview) -> int:
        writers.append(threading.current_thread().name)
        return real(descriptor, data)

    sink = await new_sink("file", path="readings.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr("connectors.file.appender.os.write", write_some)
        await write(sink, batch_of(numbered(0, 5)))
    assert writers == ["file-readings"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"path": "a", "format": "template"}, "belong together"),
        ({"path": "a", "template": "${x}"}, "belong together"),
        ({"path": "a", "timezone": "Europe/Nowhere"}, "no time zone"),
        ({"path": "${d}/x"}, "."),
    ],
)
async def test_options_that_contradict_each_other(new_sink: NewSink, options: dict[str, Any], message: str) -> None:
    """`headgate check` reports it before anything starts."""
    with pytest.raises(ConfigError, match=message):
        await new_sink("file", is_connected=False, **options)
