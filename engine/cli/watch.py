"""Watches the files of a project, so that `headgate run` can reload them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from engine.config.project import CONNECTORS_FILE, SETTINGS_FILE
from engine.service.tasks import Tasks

log = structlog.get_logger()

DEBOUNCE_MS = 300
"""Changes within this time are handled as one: editors write a file in several steps."""


class FileWatcher:
    """Calls `on_change` after each change of a rule or a configuration file. A `Service`.

    Folders are watched, not files: editors save by replacing a file, which ends a watch on the file itself.
    `rules_dir` returns the current folder of the rules, which a change of headgate.yaml can move.
    """

    def __init__(
        self, directory: Path, rules_dir: Callable[[], Path], on_change: Callable[[], Awaitable[None]]
    ) -> None:
        self._directory = directory.resolve()
        self._rules_dir = rules_dir
        self._on_change = on_change
        self._tasks = Tasks("watch")

    async def start(self) -> None:
        """Start watching."""
        self._tasks.spawn(self._watch(), "files")

    async def stop(self) -> None:
        """Stop watching; the handling of a change is cancelled."""
        await self._tasks.cancel()

    def is_of_project(self, change: Change, path: str) -> bool:
        """Whether a changed path is a file or folder of the project."""
        changed = Path(path)
        if changed.parent == self._directory and changed.name in (SETTINGS_FILE, CONNECTORS_FILE):
            return True
        rules_dir = self._rules_dir().resolve()
        return changed == rules_dir or (changed.parent == rules_dir and changed.suffix == ".sql")

    async def _watch(self) -> None:
        try:
            await self._watch_folders(self._folders())
            while True:
                # The folder of the rules was created, removed or is another. Files written before the watch are read
                # now, those written while it starts at its first answer.
                await self._on_change()
                await self._watch_folders(self._folders(), is_behind=True)
        except OSError as error:
            log.warning("files are not watched; SIGHUP reloads", reason=str(error))

    async def _watch_folders(self, folders: list[Path], is_behind: bool = False) -> None:
        """Watch `folders` until the folders to watch are others."""
        answers = awatch(
            *folders, watch_filter=self.is_of_project, debounce=DEBOUNCE_MS, recursive=False, yield_on_timeout=True
        )
        async for changes in answers:
            if self._folders() == folders and (changes or is_behind):
                is_behind = False
                await self._on_change()
            if self._folders() != folders:
                return

    def _folders(self) -> list[Path]:
        return [folder for folder in (self._directory, self._rules_dir().resolve()) if folder.is_dir()]
