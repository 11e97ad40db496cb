"""A real server for tests: it runs on free ports with its own data directory, and can be killed and restarted.

All methods are synchronous and need no event loop; a test that must go on meanwhile calls them by
`asyncio.to_thread`. A test run ends all processes that it started, and no others.
"""

from __future__ import annotations

import asyncio
import atexit
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import weakref
from abc import ABC, abstractmethod
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import psutil

from servers.install import missing

T = TypeVar("T")

HOST = "127.0.0.1"
STARTUP_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.05


class Server(ABC):
    """One server process. Its ports and data stay the same over `kill`, `stop` and `start`."""

    name: ClassVar[str]
    """The name in `@pytest.mark.server` and `servers.install.missing`."""
    user: ClassVar[str | None] = None
    """The system user that runs it where tests run as root, for servers that refuse root."""

    def __init__(self) -> None:
        self.host = HOST
        self.port = free_port()
        self.directory = Path(tempfile.mkdtemp(prefix=f"headgate-{self.name}-"))
        self._process: subprocess.Popen[bytes] | None = None
        self._prepared = False
        _existing.add(self)

    @abstractmethod
    def prepare(self) -> None:
        """Prepare the data directory; called once, before the first start."""

    @abstractmethod
    def command(self) -> list[str]:
        """Return the command line that runs the server in the foreground."""

    @abstractmethod
    def is_ready(self) -> bool:
        """Whether it serves requests."""

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The server's process. Raises `RuntimeError` when it does not run."""
        if self._process is None:
            raise RuntimeError(f"{self.name} is not running")
        return self._process.pid

    @property
    def log_path(self) -> Path:
        return self.directory / "server.log"

    def start(self) -> None:
        """Start and wait until it serves. Raises `RuntimeError` with the end of its log if it does not."""
        if self.running:
            return
        if not self._prepared:
            if self.user is not None and os.geteuid() == 0:
                shutil.chown(self.directory, self.user)
            self.prepare()
            self._prepared = True
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self.command(), cwd=self.directory, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT,
                start_new_session=True, **self._identity(),
            )  # fmt: skip
        self._wait_until_ready(self._process)

    def kill(self) -> None:
        """Kill the server and its child processes with ``kill -9``, as in an outage."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """Stop in order; kill it if that takes too long."""
        self._end(signal.SIGINT)

    def restart(self) -> None:
        """Kill and start again, with the data kept."""
        self.kill()
        self.start()

    def pause(self) -> None:
        """Make it hang until `resume`: connections stay open and get no answers."""
        for process in self._family():
            process.suspend()

    def resume(self) -> None:
        for process in reversed(self._family()):
            process.resume()

    def remove(self) -> None:
        """Kill it and delete its data."""
        self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)
        _existing.discard(self)

    def run_tool(self, *command: str) -> str:
        """Run one of the server's own programs, as its user; its output. Raises `RuntimeError` when it fails."""
        done = subprocess.run(
            command, cwd=self.directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            timeout=STARTUP_TIMEOUT_S, check=False, **self._identity(),
        )  # fmt: skip
        output: str = done.stdout.decode(errors="replace")
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed ({done.returncode}): {output[-2000:]}")
        return output

    def _identity(self) -> dict[str, Any]:
        if self.user is None or os.geteuid() != 0:
            return {}
        return {"user": self.user, "group": self.user, "extra_groups": []}

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + STARTUP_TIMEOUT_S
        while not self.is_ready():
            if process.poll() is not None:
                raise RuntimeError(f"{self.name} ended at once ({process.returncode}):\n{self._log_tail()}")
            if time.monotonic() > deadline:
                self.kill()
                raise RuntimeError(f"{self.name} was not ready in {STARTUP_TIMEOUT_S:.0f} s:\n{self._log_tail()}")
            time.sleep(_POLL_S)

    def _end(self, how: signal.Signals) -> None:
        process = self._process
        if process is None:
            return
        # Children may have left the process group (PostgreSQL's do), and would outlive a killed parent for a while,
        # holding its port: they are remembered first, and waited for.
        family = self._family()
        if process.poll() is None:
            process.send_signal(how)
            process.send_signal(signal.SIGCONT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STOP_TIMEOUT_S)
        for member in family:
            with contextlib.suppress(psutil.NoSuchProcess):
                member.kill()
        process.wait(STOP_TIMEOUT_S)
        psutil.wait_procs(family, timeout=STOP_TIMEOUT_S)
        self._process = None

    def _family(self) -> list[psutil.Process]:
        if not self.running:
            return []
        try:
            parent = psutil.Process(self.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _log_tail(self) -> str:
        return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-20:])


_existing: weakref.WeakSet[Server] = weakref.WeakSet()


@atexit.register
def _remove_all() -> None:
    for server in list(_existing):
        server.remove()


def require(name: str) -> None:
    """Raise `RuntimeError` with the reason when the server `name` can't be started here."""
    reason = missing(name)
    if reason:
        raise RuntimeError(reason)


def free_port() -> int:
    """Return a TCP port on the loopback that is not in use now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def accepts(port: int) -> bool:
    """Whether something accepts TCP connections on the loopback at `port`."""
    with socket.socket() as probe:
        probe.settimeout(1.0)
        return probe.connect_ex((HOST, port)) == 0


def in_thread(work: Coroutine[Any, Any, T], timeout_s: float = STARTUP_TIMEOUT_S) -> T:
    """Return the result of `work`, run in an event loop in a thread, so that the caller may have a running loop."""

    async def bounded() -> T:
        return await asyncio.wait_for(work, timeout_s)

    with ThreadPoolExecutor(1) as executor:
        return executor.submit(asyncio.run, bounded()).result()
