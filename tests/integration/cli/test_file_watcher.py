"""Changes of a project's files are noticed, as editors make them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from watchfiles import Change

from engine.cli.watch import FileWatcher


class Readings:
    """The project's files at the last change that was noticed."""

    def __init__(self, project: Path) -> None:
        self._project = project
        self._last: dict[str, str] = {}
        self._noticed = asyncio.Condition()

    async def read(self) -> None:
        files = [path for path in self._project.rglob("*") if path.is_file()]
        async with self._noticed:
            self._last = {str(path.relative_to(self._project)): path.read_text() for path in files}
            self._noticed.notify_all()

    async def wait_for(self, name: str, text: str | None) -> None:
        """Until a reading found the file with this text, or, for None, did not find it."""
        async with asyncio.timeout(10), self._noticed:
            await self._noticed.wait_for(lambda: self._last.get(name) == text and self._last)


@pytest.fixture
def readings(tmp_path: Path) -> Readings:
    return Readings(tmp_path)


def rules_dir(project: Path) -> Path:
    """The rules directory according to headgate.yaml, which has no other key here."""
    settings = project / "headgate.yaml"
    return project / (settings.read_text().strip("{}") or "rules") if settings.exists() else project / "rules"


@pytest.fixture
async def project(tmp_path: Path, readings: Readings) -> AsyncIterator[Path]:
    (tmp_path / "rules").mkdir()
    watcher = FileWatcher(tmp_path, lambda: rules_dir(tmp_path), readings.read)
    await watcher.start()
    # The watch is up once it notices something: until then, keep changing what is watched.
    noticed = asyncio.ensure_future(readings.wait_for("headgate.yaml", "{}"))
    while not noticed.done():
        (tmp_path / "headgate.yaml").write_text("{}")
        await asyncio.wait([noticed], timeout=0.2)
    noticed.result()
    yield tmp_path
    await watcher.stop()


async def test_a_rewritten_file_is_noticed(project: Path, readings: Readings) -> None:
    """The plain way of saving."""
    (project / "rules" / "a.sql").write_text("SELECT 1")

    await readings.wait_for("rules/a.sql", "SELECT 1")


async def test_a_file_replaced_by_renaming_is_noticed_again_and_again(project: Path, readings: Readings) -> None:
    """Editors that save safely do this; a watch of the file itself would lose it."""
    for number in range(3):
        (project / "draft").write_text(f"# {number}")
        (project / "draft").rename(project / "connectors.yaml")

        await readings.wait_for("connectors.yaml", f"# {number}")


async def test_rules_of_a_folder_that_comes_back_are_noticed(project: Path, readings: Readings) -> None:
    """A checkout of another branch removes and makes it."""
    (project / "rules" / "a.sql").write_text("SELECT 1")
    await readings.wait_for("rules/a.sql", "SELECT 1")
    (project / "rules" / "a.sql").unlink()
    (project / "rules").rmdir()
    await readings.wait_for("rules/a.sql", None)

    (project / "rules").mkdir()
    (project / "rules" / "a.sql").write_text("SELECT 2")
    await readings.wait_for("rules/a.sql", "SELECT 2")
    (project / "rules" / "a.sql").write_text("SELECT 3")

    await readings.wait_for("rules/a.sql", "SELECT 3")


async def test_rules_are_watched_in_their_new_folder(project: Path, readings: Readings) -> None:
    """The folder of the rules is an option like others: what comes after the edit is noticed in the new one."""
    (project / "other").mkdir()
    (project / "headgate.yaml").write_text("{other}")
    await readings.wait_for("headgate.yaml", "{other}")
    (project / "other" / "a.sql").write_text("SELECT 1")
    await readings.wait_for("other/a.sql", "SELECT 1")
    (project / "other" / "a.sql").write_text("SELECT 2")

    await readings.wait_for("other/a.sql", "SELECT 2")


def test_data_and_stray_files_are_ignored(tmp_path: Path, readings: Readings) -> None:
    """The journal changes a thousand times a second, beneath the same folder."""
    watcher = FileWatcher(tmp_path, lambda: tmp_path / "rules", readings.read)
    paths = [
        "data/journal.sqlite",
        "headgate.yaml~",
        "rules/a.sql.swp",
        "rules/a.test.yaml",
        "rules/deep/a.sql",
        "README.md",
    ]

    assert [path for path in paths if watcher.is_of_project(Change.modified, str(tmp_path / path))] == []
    assert watcher.is_of_project(Change.deleted, str(tmp_path / "rules" / "a.sql"))
