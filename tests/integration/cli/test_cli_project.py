"""``headgate version``, ``init`` and the help."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from engine.cli import COMMANDS
from support.command import headgate

SHOWN = [name for name in COMMANDS if name != "demo"]


async def test_version_is_one_line_or_one_object(tmp_path: Path) -> None:
    """Scripts read both."""
    plain = await headgate("version", cwd=tmp_path)
    as_json = await headgate("version", "--json", cwd=tmp_path)

    assert re.fullmatch(r"headgate \d+\.\d+\.\d+\S*\n", plain.out)
    assert as_json.json["version"] == plain.out.split()[1]


async def test_help_names_every_command(tmp_path: Path) -> None:
    """A command that is not in the help does not exist for anybody."""
    finished = await headgate("--help", cwd=tmp_path)

    assert finished.code == 0
    assert [name for name in SHOWN if not re.search(rf"^  {name}\b", finished.out, re.MULTILINE)] == []


@pytest.mark.parametrize("command", SHOWN)
async def test_help_of_a_command_has_examples(tmp_path: Path, command: str) -> None:
    """An example says more than a list of options."""
    finished = await headgate(command, "--help", cwd=tmp_path)

    assert finished.code == 0
    assert re.search(rf"Examples:.*\bheadgate {command}\b", finished.out, re.DOTALL)


async def test_an_unknown_command_exits_with_2_and_names_the_nearest(tmp_path: Path) -> None:
    """It is a slip of the finger."""
    finished = await headgate("statsu", cwd=tmp_path)

    assert finished.code == 2
    assert "status" in finished.err


async def test_init_makes_a_project_and_overwrites_nothing(tmp_path: Path) -> None:
    """Somebody will call it in the wrong folder."""
    made = await headgate("init", "plant", cwd=tmp_path)
    (tmp_path / "plant" / "connectors.yaml").write_text("mine")
    again = await headgate("init", "plant", cwd=tmp_path)

    files = sorted(str(path.relative_to(tmp_path / "plant")) for path in (tmp_path / "plant").rglob("*"))
    assert made.code == 0
    assert files == [
        ".gitignore", "connectors.yaml", "headgate.yaml", "rules", "rules/hot_rooms.sql", "rules/hot_rooms.test.yaml",
    ]  # fmt: skip
    assert (again.code, "connectors.yaml" in again.err) == (1, True)
    assert (tmp_path / "plant" / "connectors.yaml").read_text() == "mine"


async def test_run_without_a_project_names_init(tmp_path: Path) -> None:
    """The first thing somebody tries is to start it somewhere."""
    finished = await headgate("run", cwd=tmp_path)

    assert finished.code == 1
    assert "is not a project" in finished.err
    assert "headgate init" in finished.err
    assert "Traceback" not in finished.err


async def test_a_demonstration_without_a_listener_is_refused(tmp_path: Path) -> None:
    """The simulated devices would have nothing to connect to."""
    (tmp_path / "headgate.yaml").write_text("listeners: []\napi: {enable: false}\n")

    finished = await headgate("run", "--demo", cwd=tmp_path)

    assert finished.code == 2
    assert finished.err.startswith("error: --demo needs a listener\n")


async def test_a_file_named_as_the_project_is_refused(tmp_path: Path) -> None:
    """A user may name the configuration file for its folder."""
    (tmp_path / "headgate.yaml").write_text("")

    finished = await headgate("check", "--project", "headgate.yaml", cwd=tmp_path)

    file = tmp_path / "headgate.yaml"
    assert finished.code == 1
    assert finished.out == f"error: {file} is a file\n     = a project is a folder: {tmp_path}, perhaps\n\n1 error\n"


async def test_a_debug_traceback_holds_no_secret(tmp_path: Path) -> None:
    """Users attach it to bug reports."""
    (tmp_path / "headgate.yaml").write_text(
        'listeners: []\napi: {bind: "${env:PLACE}", token: "${env:TOKEN}"}\n', encoding="utf-8"
    )
    environ = {"PLACE": "s3cret.invalid:18083", "TOKEN": "t0k3n"}

    plain = await headgate("run", cwd=tmp_path, environ=environ)
    finished = await headgate("--debug", "run", cwd=tmp_path, environ=environ)

    assert (plain.code, finished.code) == (1, 1)
    assert plain.err.startswith("error: the API can't listen on ***: ")
    assert "Traceback" in finished.err
    assert "the API can't listen on ***: " in finished.err
    assert environ["PLACE"] not in plain.err + finished.err
