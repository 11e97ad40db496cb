"""Headgate as a process: its project folder, its admin API, and its memory and CPU time."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import yaml

from support.wait import wait_until

START_S = 30.0
STOP_S = 30.0
SETTLE_S = 60.0

RULE_PARTS = ("filtered", "failed", "emitted")
"""Outcomes of a message that a rule received; a refused message is not counted as received."""
SINK_PARTS = ("delivered", "buffered", "dead_lettered", "dropped")
"""Outcomes of a record that a sink was given."""


class Headgate:
    """A project in `directory` and the process that runs it. Ports are free ones, new at every start.

    `settings` and `connectors` are the two YAML files as values, `rules` maps a rule's id to its SQL.
    """

    def __init__(
        self,
        directory: Path,
        *,
        sinks: Mapping[str, Mapping[str, Any]],
        rules: Mapping[str, str],
        settings: Mapping[str, Any] | None = None,
    ) -> None:
        self.directory = directory
        self.data_dir = directory / "data"
        self.log_path = directory / "headgate.log"
        (directory / "rules").mkdir(parents=True, exist_ok=True)
        self.write_settings(**(settings or {}))
        self.write_sinks(sinks)
        for rule_id, sql in rules.items():
            self.write_rule(rule_id, sql)
        self._process: subprocess.Popen[bytes] | None = None
        self._run: dict[str, Any] = {}
        self._http = httpx.Client(timeout=10, trust_env=False)

    def write_settings(self, **settings: Any) -> None:
        """Write ``headgate.yaml``: these keys over free ports on the loopback."""
        whole = {
            "data_dir": "data",
            "listeners": [{"type": "tcp", "bind": "127.0.0.1:0"}],
            "api": {"bind": "127.0.0.1:0"},
            **settings,
        }
        self._write("headgate.yaml", yaml.safe_dump(whole, sort_keys=False))

    def write_sinks(self, sinks: Mapping[str, Mapping[str, Any]]) -> None:
        """Write ``connectors.yaml``."""
        self._write("connectors.yaml", yaml.safe_dump({"sinks": {k: dict(v) for k, v in sinks.items()}}))

    def write_rule(self, rule_id: str, sql: str) -> None:
        """Write one rule."""
        self._write(f"rules/{rule_id}.sql", sql)

    def _write(self, name: str, text: str) -> None:
        """Write a file atomically, as an editor saves it."""
        draft = self.directory / (name + ".new")
        draft.write_text(text)
        draft.replace(self.directory / name)

    @property
    def port(self) -> int:
        """The port for devices; raises `ConnectionError` while the process is down."""
        if not self._run:
            raise ConnectionError("Headgate is not running")
        port: int = self._run["listeners"][0]["port"]
        return port

    @property
    def pid(self) -> int:
        return self._started().pid

    def command(self, *arguments: str) -> list[str]:
        """Return a `headgate` command line for this project."""
        return [sys.executable, "-m", "engine", *arguments, "--project", str(self.directory)]

    def cli(self, *arguments: str, deadline_s: float = 30) -> subprocess.CompletedProcess[str]:
        """Run a `headgate` command on this project to its end."""
        return subprocess.run(self.command(*arguments), capture_output=True, text=True, timeout=deadline_s, check=False)

    def launch(self, output: int | None = None) -> subprocess.Popen[bytes]:
        """Start a process without waiting; its output goes to the descriptor `output`, or else to the log."""
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                self.command("run"),
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )

    def start(self, output: int | None = None) -> Headgate:
        """Start the process and wait until it listens."""
        (self.data_dir / "run.json").unlink(missing_ok=True)
        self._process = self.launch(output)
        self._run = wait_until(self._read_run_file, START_S, "Headgate listens", detail=self.log_tail)
        return self

    def _read_run_file(self) -> dict[str, Any]:
        process = self._started()
        if process.poll() is not None:
            raise AssertionError(f"Headgate ended with {process.returncode} instead of listening\n{self.log_tail()}")
        try:
            run: dict[str, Any] = json.loads((self.data_dir / "run.json").read_text())
        except FileNotFoundError:
            return {}
        return run if run["pid"] == process.pid else {}

    def kill(self) -> None:
        """Kill the process with ``kill -9``: nothing is flushed."""
        self._run = {}
        process = self._started()
        process.kill()
        process.wait(STOP_S)
        self._process = None

    def terminate(self) -> int:
        """Send SIGTERM, wait for the end and return the exit code."""
        process = self._started()
        process.send_signal(signal.SIGTERM)
        code = process.wait(STOP_S)
        self._run, self._process = {}, None
        return code

    def signal(self, number: signal.Signals) -> None:
        """Send a signal and do not wait."""
        self._started().send_signal(number)

    def wait(self, deadline_s: float = STOP_S) -> int:
        """Wait until the process has ended by itself."""
        code = self._started().wait(deadline_s)
        self._run, self._process = {}, None
        return code

    def restart(self) -> None:
        """Stop in order and start again."""
        self.terminate()
        self.start()

    def close(self) -> None:
        """Kill the process if it runs."""
        if self._process is not None and self._process.poll() is None:
            self.kill()
        self._http.close()

    def __enter__(self) -> Headgate:
        return self if self._process is not None else self.start()

    def __exit__(self, *exception: object) -> None:
        self.close()

    def api(self, path: str, method: str = "GET", **parameters: Any) -> Any:
        """Return the answer of the admin API."""
        api = self._run["api"]
        response = self._http.request(method, f"http://{api['host']}:{api['port']}/api/v5/{path}", params=parameters)
        response.raise_for_status()
        return response.json()

    def rules(self) -> dict[str, dict[str, Any]]:
        """Return the active rules with their counters."""
        return {rule["id"]: rule for rule in self.api("rules", limit=10_000)["data"]}

    def sinks(self) -> dict[str, dict[str, Any]]:
        """Return the sinks with their status and counters."""
        return {sink["id"]: sink for sink in self.api("sinks", limit=10_000)["data"]}

    def sink(self, sink_id: str) -> dict[str, Any]:
        """Return one sink."""
        sink: dict[str, Any] = self.api(f"sinks/{sink_id}")
        return sink

    def wait_for_sink(self, sink_id: str, deadline_s: float = SETTLE_S, **wanted: Any) -> dict[str, Any]:
        """Wait until every `wanted` field of the sink has its value, and return the sink."""

        def there() -> dict[str, Any] | None:
            sink = self.sink(sink_id)
            return sink if all(sink[name] == value for name, value in wanted.items()) else None

        return wait_until(
            there, deadline_s, f"sink {sink_id} has {wanted}", pause_s=0.1, detail=lambda: self.sink(sink_id)
        )

    def settle(self, *sink_ids: str, deadline_s: float = SETTLE_S) -> None:
        """Wait until no record is buffered for these sinks (by default all)."""

        def backlog() -> dict[str, int]:
            sinks = self.sinks()
            return {name: sinks[name]["buffered"] for name in sink_ids or sinks if sinks[name]["buffered"]}

        wait_until(lambda: not backlog(), deadline_s, "every backlog is drained", pause_s=0.1, detail=self.sinks)

    def check_counters(self) -> None:
        """Check that the counters of every rule and sink add up, while no message is in flight."""
        rules, sinks = self.rules(), self.sinks()
        for rule in rules.values():
            assert rule["received"] == sum(rule[part] for part in RULE_PARTS), rule
        for sink in sinks.values():
            assert sink["emitted"] == sum(sink[part] for part in SINK_PARTS), sink
        records = sum(rule["records"] for rule in rules.values())
        assert records == sum(sink["emitted"] for sink in sinks.values()), (rules, sinks)

    def cpu_s(self) -> float:
        """Return the CPU seconds of all threads of the process, user and system."""
        times = psutil.Process(self.pid).cpu_times()
        return float(times.user + times.system)

    def rss(self) -> int:
        """Return the resident memory in bytes."""
        return int(psutil.Process(self.pid).memory_info().rss)

    def rss_max(self) -> int:
        """Return the peak of resident memory in bytes."""
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("/proc/<pid>/status has no VmHWM, the peak of the memory")

    def log(self) -> str:
        """Return all output since the project was made."""
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_for_log(self, words: str, deadline_s: float = 10.0) -> None:
        """Wait until the output contains `words`."""
        wait_until(lambda: words in self.log(), deadline_s, f"its output has {words!r}", detail=self.log_tail)

    def log_tail(self, lines: int = 40) -> str:
        """Return the end of the output."""
        return "\n".join(["--- output of the process:", *self.log().splitlines()[-lines:]])

    def _started(self) -> subprocess.Popen[bytes]:
        assert self._process is not None, "Headgate was not started"
        return self._process


MakeHeadgate = Callable[..., Headgate]
"""The fixture `headgate`: makes a project in a temporary folder, with `Headgate`'s arguments."""
