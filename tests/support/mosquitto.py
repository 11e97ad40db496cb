"""Debian's mosquitto as a process of the test's: the broker that benchmarks compare with."""

from __future__ import annotations

import contextlib
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

from support.wait import wait_until

PROGRAMS = ("mosquitto", "/usr/sbin/mosquitto")


def find_mosquitto() -> str | None:
    """The program's path, or None where it is not installed."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


@contextlib.contextmanager
def mosquitto(directory: Path) -> Iterator[tuple[int, int]]:
    """A running mosquitto without persistence, as (port, pid)."""
    program = find_mosquitto()
    if program is None:
        raise FileNotFoundError("mosquitto is not installed: apt-get install mosquitto")
    port = free_port()
    settings = directory / "mosquitto.conf"
    settings.write_text(
        f"listener {port} 127.0.0.1\nallow_anonymous true\npersistence false\nmax_inflight_messages 0\nlog_type error\n"
    )
    process = subprocess.Popen([program, "-c", str(settings)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: accepts(port), 10, "mosquitto listens")
        yield port, process.pid
    finally:
        process.terminate()
        process.wait(10)


def free_port() -> int:
    """A port nobody listens on now. Another process may take it before it is used: prefer port 0 where possible."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether somebody accepts connections on `port`."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True
