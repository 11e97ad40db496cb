"""Options of the `file` sink."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated, Literal
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from pydantic import Field

from engine.config.units import Duration, Size
from engine.connector import ConnectorConfig
from engine.errors import ConfigError
from engine.language.template.option import templated


class FileConfig(ConnectorConfig):
    """Options of the `file` sink."""

    path: Annotated[str, templated("path")]
    """Template of the path, relative to the configuration file. It must begin with fixed text."""
    format: Literal["jsonl", "template"] = "jsonl"
    """`jsonl` writes each row as a JSON object, `template` writes the result of `template`."""
    template: Annotated[str, templated("text")] | None = None
    """Template of a line without its line end, for `format: template`."""
    max_file_size: Size = 100 << 20
    """Size at which a file is rotated; 0 is no limit."""
    max_files: Annotated[int, Field(ge=0)] = 10
    """Rotated files that are kept; older ones are deleted. 0 keeps all."""
    rotate: Literal["none", "hour", "day"] = "none"
    """Rotate also at the first row of a new hour or day."""
    timezone: str = "UTC"
    """Time zone of `rotate` and of the names of rotated files."""
    fsync: Literal["always", "interval", "never"] = "interval"
    """When rows are synced to disk: `always` before they count as delivered, `interval` within `fsync_interval`,
    `never` when the system does. A power cut loses rows that are not synced, a crash of the process does not."""
    fsync_interval: Duration = 1.0
    """Longest wait of a written row for its fsync."""
    compress_rotated: Literal["none", "gzip"] = "none"
    """Compression of rotated files."""
    max_open_files: Annotated[int, Field(ge=1, le=1024)] = 64
    """Limit of open files, if `path` has placeholders."""
    allow_unconfined: bool = False
    """Allow a path that begins with a placeholder, so that a message can choose any file."""

    def check(self) -> None:
        """Raise `ConfigError` for options that contradict each other, or a time zone that does not exist."""
        if (self.format == "template") != (self.template is not None):
            raise ConfigError(
                "`template` and `format: template` belong together", remedy="write both, or neither for JSON lines"
            )
        self.zone()

    def zone(self) -> tzinfo:
        """Return the zone that `timezone` names. Raise `ConfigError` if there is none of that name."""
        try:
            return ZoneInfo(self.timezone)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ConfigError(
                f"there is no time zone {self.timezone!r}", remedy="write one like UTC or Europe/Berlin"
            ) from error
