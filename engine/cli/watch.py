"""Notices that a file of the project has changed, so that `headgate run` can read it again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog
from watchfiles import Change, awatch

from engine.config.project import CONNECTORS_FILE, SETTINGS_FILE
from engine.service.tasks import Tasks

log = structlog.get_logger()

DEBOUNCE_MS = 300
"""Changes that come closer together than this are one: editors write a file in several steps."""


class FileWatcher:
    """Calls `on_change` after each change of a rule or a configuration file. A `Service`.

    Folders are watched, not files, so that files which are replaced, which is how editors save, stay in sight.
    `rules_dir` says where the rules are now: a change of headgate.yaml may move them.
    """

    def __init__(
        self, directory: Path, rules_dir: Callable[[], Path], on_change: Callable[[], Awaitable[None]]
    ) -> None:
        self._directory = directory.resolve()
        self._rules_dir = rules_dir
        self._on_change = on_change
        self._tasks = Tasks("watch")

    async def start(self) -> None:
        """Watch from now on."""
        self._tasks.spawn(self._watch(), "files")

    async def stop(self) -> None:
        """Watch no longer; a change being handled is given up."""
        await self._tasks.cancel()

    def is_of_project(self, change: Change, path: str) -> bool:
        """Whether a changed path is one that the project is made of."""
        changed = Path(path)
        if changed.parent == self._directory and changed.name in (SETTINGS_FILE, CONNECTORS_FILE):
            return True
        rules_dir = self._rules_dir().resolve()
        return changed == rules_dir or (changed.parent == rules_dir and changed.suffix == ".sql")

    async def _watch(self) -> None:
        try:
            await self._watch_folders(self._folders())
            while True:
                # The rules' folder came, went or is another. What was written into it before it was watched is read
                # now, and what was written while the watch began is read at its first answer.
                await self._on_change()
                await self._watch_folders(self._folders(), is_behind=True)
        except OSError as error:
            log.warning("files are not watched; SIGHUP reloads", reason=str(error))

    async def _watch_folders(self, folders: list[Path], is_behind: bool = False) -> None:
        """Returns when there are other folders to watch."""
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
