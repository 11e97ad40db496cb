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
    """Template of the file, relative to the file that names it; it must begin with text of its own."""
    format: Literal["jsonl", "template"] = "jsonl"
    """`jsonl` writes each row as a JSON object, `template` what `template` says."""
    template: Annotated[str, templated("text")] | None = None
    """Template of a line, without its end; for `format: template`."""
    max_file_size: Size = 100 << 20
    """Size at which a file is rotated; 0 is never."""
    max_files: Annotated[int, Field(ge=0)] = 10
    """Rotated files kept beside the current one, the oldest are deleted; 0 keeps all."""
    rotate: Literal["none", "hour", "day"] = "none"
    """Rotate also when the hour or the day changes, at the next row."""
    timezone: str = "UTC"
    """Time zone of `rotate` and of the names of rotated files."""
    fsync: Literal["always", "interval", "never"] = "interval"
    """`always` before rows count as delivered, `interval` at most `fsync_interval` later, `never` leaves it to the
    system. What was not synced is lost in a power cut, not when the process dies."""
    fsync_interval: Duration = 1.0
    """How long a written row may wait for its fsync."""
    compress_rotated: Literal["none", "gzip"] = "none"
    """Compress rotated files."""
    max_open_files: Annotated[int, Field(ge=1, le=1024)] = 64
    """Files kept open, where `path` has placeholders."""
    allow_unconfined: bool = False
    """Allow a path that is decided by the message alone."""

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
