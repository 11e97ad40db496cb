"""``headgate run`` and its signals, inside one process."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

from structlog.testing import capture_logs

from engine.cli.run import Running


async def test_a_reload_requested_during_start_follows_it(tmp_path: Path) -> None:
    """A script that writes a file and sends SIGHUP can't know how far the process is."""
    (tmp_path / "rules").mkdir()
    (tmp_path / "headgate.yaml").write_text('listeners: [{type: tcp, bind: "127.0.0.1:0"}]\napi: {enable: false}\n')
    with capture_logs() as logs:
        running = asyncio.ensure_future(Running(tmp_path, demo=False, watch=False).run())
        await asyncio.sleep(0)
        os.kill(os.getpid(), signal.SIGHUP)
        async with asyncio.timeout(20):
            while "reloaded" not in [entry["event"] for entry in logs]:
                await asyncio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGTERM)
        assert await running == 0
    assert [entry for entry in logs if entry["log_level"] == "error"] == []
