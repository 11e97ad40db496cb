"""The command line, run as a process."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Finished:
    """Output and exit code of a command."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


async def headgate(
    *arguments: str, cwd: Path, stdin: str | bytes = b"", environ: Mapping[str, str] | None = None
) -> Finished:
    """Run ``headgate`` with `arguments` in the folder `cwd` and wait for its end."""
    process = await start_headgate(*arguments, cwd=cwd, environ=environ)
    text = stdin.encode() if isinstance(stdin, str) else stdin
    try:
        async with asyncio.timeout(TIMEOUT_S):
            out, err = await process.communicate(text)
    except TimeoutError:
        process.kill()
        await process.wait()
        raise
    assert process.returncode is not None
    return Finished(process.returncode, out.decode(), err.decode())


async def start_headgate(
    *arguments: str, cwd: Path, environ: Mapping[str, str] | None = None
) -> asyncio.subprocess.Process:
    """Start ``headgate`` without waiting, for commands that run until they are stopped."""
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "engine", *arguments, cwd=cwd, stdin=pipe, stdout=pipe, stderr=pipe,
        env={**os.environ, **(environ or {})},
    )  # fmt: skip
