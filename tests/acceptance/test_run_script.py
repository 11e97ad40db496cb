"""The first start in a fresh copy: `scripts/run --demo`, and rows."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from support.wait import wait_until

ROOT = Path(__file__).resolve().parents[2]
INSTALL_S = 400.0
START_S = 20.0
ROWS_S = 15.0
NO_NETWORK = {"PIP_NO_INDEX": "1", "PIP_NO_CACHE_DIR": "1", "HTTPS_PROXY": "http://127.0.0.1:1"}


@pytest.fixture
def fresh_copy(tmp_path: Path) -> Path:
    """The files of this checkout as a clone would have them, on free ports so that nothing else is disturbed."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, stdout=subprocess.PIPE, check=True,
    )  # fmt: skip
    for name in filter(None, listed.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, tmp_path / name)
    settings = tmp_path / "headgate.yaml"
    settings.write_text(re.sub(r"(127\.0\.0\.1):\d+", r"\1:0", settings.read_text()))
    return tmp_path


@contextlib.contextmanager
def started(folder: Path, *arguments: str, wait_s: float, **variables: str) -> Iterator[Path]:
    """`scripts/run` until it listens; ended in order. Gives the file of what it printed."""
    output = folder / "output.txt"
    with output.open("wb") as file:
        process = subprocess.Popen(
            [str(folder / "scripts" / "run"), *arguments],
            cwd=folder.parent, env=environment(variables), stdout=file, stderr=subprocess.STDOUT,
        )  # fmt: skip
    try:
        wait_until(
            lambda: (folder / "data" / "run.json").exists() or process.poll() is not None,
            wait_s, "it listens", pause_s=0.2, detail=output.read_text,
        )  # fmt: skip
        assert process.poll() is None, output.read_text()
        yield output
        process.send_signal(signal.SIGTERM)
        assert process.wait(START_S) == 0, output.read_text()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(START_S)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """As a shell outside of any virtual environment has it."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")}
    return {**inherited, "PYTHON": sys.base_prefix + "/bin/python3", **variables}


def readings(folder: Path) -> int:
    """Return the number of rows that the sample rules have stored."""
    database = folder / "data" / "plant.db"
    if not database.exists():
        return 0
    with contextlib.closing(sqlite3.connect(database, timeout=5)) as connection:
        if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'readings'").fetchone():
            return 0
        count: int = connection.execute("SELECT count(*) FROM readings").fetchone()[0]
        return count


@pytest.mark.slow
def test_a_fresh_copy_runs_shows_rows_and_runs_again_offline(fresh_copy: Path) -> None:
    """It makes its environment, says what to try, and with --demo rows arrive; later it needs no network."""
    with started(fresh_copy, "--demo", wait_s=INSTALL_S) as output:
        wait_until(lambda: readings(fresh_copy) > 10, ROWS_S, "rows arrive", detail=output.read_text)
        said = output.read_text()
        assert "plant.db" in said
        commands = re.findall(r"^  (.+)$", said.partition("Try in a second terminal")[2], re.MULTILINE)
        assert len(commands) >= 2
        for command in commands[:2]:
            subprocess.run(command, shell=True, cwd=fresh_copy, timeout=START_S, check=True, stdout=subprocess.DEVNULL)
    before = readings(fresh_copy)
    with started(fresh_copy, wait_s=START_S, **NO_NETWORK):
        assert readings(fresh_copy) >= before


@pytest.mark.parametrize("is_linked", [False, True], ids=["by its name", "by a link to it"])
def test_a_python_that_is_too_old_is_reported(fresh_copy: Path, is_linked: bool) -> None:
    """The script says what it found and what it needs, and makes nothing; also when called by a link from a bin."""
    old = fresh_copy / "python3.9"
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    script = fresh_copy / "scripts" / "run"
    if is_linked:
        link = fresh_copy / "home" / "bin" / "headgate"
        link.parent.mkdir(parents=True)
        link.symlink_to(script)
        script = link
    done = subprocess.run(
        [str(script)],
        env=environment({"PYTHON": str(old)}), capture_output=True, text=True, timeout=START_S, check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "3.11" in done.stderr
    assert "3.9.2" in done.stderr
    assert not (fresh_copy / ".venv").exists()


@pytest.mark.parametrize("kind", ["never finished", "made elsewhere"])
def test_an_unusable_environment_is_made_again(fresh_copy: Path, kind: str) -> None:
    """Ctrl-C came while it was made, or the folder was moved: commands in it name a place that is not there."""
    python = environment({})["PYTHON"]
    place = fresh_copy / ".venv" if kind == "never finished" else fresh_copy / "before"
    options = ["--without-pip"] if kind == "never finished" else []
    subprocess.run([python, "-m", "venv", *options, str(place)], check=True)
    place.rename(fresh_copy / ".venv")
    done = subprocess.run(
        [str(fresh_copy / "scripts" / "run")],
        env=environment({**NO_NETWORK, "PIP_FIND_LINKS": ""}), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "making the environment in .venv" in done.stderr
    assert "No module named pip" not in done.stderr
    assert "needs the network" in done.stderr
    assert f"{fresh_copy}/.venv/" in (fresh_copy / ".venv" / "bin" / "pip").read_text()
