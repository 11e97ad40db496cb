"""``headgate status`` and ``headgate dlq`` against the API of a double of the application."""

from __future__ import annotations

import json
import os
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from pydantic import SecretStr

from broker.origin import Address
from engine.admin.server import ApiServer
from engine.config.settings import ApiSettings
from support.admin_port import FakeApp, a_letter
from support.command import headgate


@pytest.fixture
def app() -> FakeApp:
    return FakeApp()


@pytest.fixture
async def project(app: FakeApp, tmp_path: Path) -> AsyncIterator[Path]:
    """A project whose process runs and wants a token, which its configuration holds."""
    server = ApiServer(app, ApiSettings(bind=Address("127.0.0.1", 0), token=SecretStr("t0k3n-x")))
    await server.start()
    (tmp_path / "headgate.yaml").write_text('data_dir: state\napi: {token: "t0k3n-x"}\nbroken: [edit\n')
    (tmp_path / "headgate.yaml").write_text('data_dir: state\napi: {token: "t0k3n-x"}\nunknown: edit\n')
    (tmp_path / "state").mkdir()
    api = {"host": server.address.host, "port": server.address.port}
    (tmp_path / "state" / "run.json").write_text(json.dumps({"pid": os.getpid(), "listeners": [], "api": api}))
    yield tmp_path
    await server.stop()


async def test_status_shows_rules_sinks_backlog_and_errors(project: Path) -> None:
    """Also while an edit of the project is broken: that is when somebody looks."""
    finished = await headgate("status", cwd=project, environ={"COLUMNS": "160"})

    assert finished.code == 0
    words = " ".join(finished.out.split())
    assert "Headgate 0.1.0 up 1h 2m, process 42" in words
    assert "! a sink is held" in words
    assert "climate readings 10 3 1 6 0" in words
    assert "readings sqlite held 3 1m 15s 2 3 0" in words
    assert "readings: there is no table readings; next attempt in 12s" in words
    assert "readings: last error: no such table: readings" in words


async def test_status_as_json_holds_the_same(project: Path) -> None:
    """For programs; fields are those of the API."""
    state = (await headgate("status", "--json", cwd=project)).json

    assert state["sinks"][0]["buffered"] == 3
    assert [rule["id"] for rule in state["rules"]] == ["climate", "off"]
    assert state["stats"]["gauges"] == {"connections": 12.0}


async def test_without_a_process_status_exits_with_3(tmp_path: Path) -> None:
    """Scripts use it to wait for a start."""
    finished = await headgate("status", cwd=tmp_path)

    assert finished.code == 3
    assert "Headgate is not running" in finished.err


async def test_a_stale_run_file_is_not_a_process(tmp_path: Path) -> None:
    """kill -9 leaves the file behind."""
    (tmp_path / "data").mkdir()
    note = {"pid": 1, "listeners": [], "api": {"host": "127.0.0.1", "port": 1}}
    (tmp_path / "data" / "run.json").write_text(json.dumps(note))

    finished = await headgate("status", cwd=tmp_path)

    assert (finished.code, "does not answer" in finished.err) == (3, True)
    assert "start it with headgate run" in finished.err


async def test_a_wrong_token_is_reported_and_not_shown(project: Path) -> None:
    """An error that quotes a token would put it into tickets."""
    finished = await headgate("status", "--token", "wr0ng", cwd=project)

    assert finished.code == 1
    assert "the API requires its token" in finished.err


@pytest.mark.parametrize("token", ["tök3n", "t0k\n3n", "t0k 3n"])
async def test_an_invalid_token_is_refused_without_showing_it(project: Path, token: str) -> None:
    """It was copied with something around it, or read from a file with its line end."""
    finished = await headgate("status", "--token", token, cwd=project)

    assert (finished.code, finished.out) == (2, "")
    assert finished.err == "error: invalid token: expected ASCII letters, digits and signs, without spaces\n"


@pytest.mark.parametrize("url", ["http://[::1", "127.0.0.1:x", "ftp://127.0.0.1"])
async def test_an_invalid_api_url_is_a_wrong_command_line(tmp_path: Path, url: str) -> None:
    """The remedy shows a valid one."""
    finished = await headgate("status", "--api", url, cwd=tmp_path)

    assert finished.code == 2
    assert f"{url}' is not a URL of an API\n  write it like http://" in finished.err


async def test_dead_letters_are_listed_shown_retried_and_dropped(project: Path, app: FakeApp) -> None:
    """All actions on dead letters, by one command."""
    listed = await headgate("dlq", "readings", cwd=project, environ={"COLUMNS": "120"})
    shown = await headgate("dlq", "readings", "show", "2", cwd=project)
    retried = await headgate("dlq", "readings", "retry", "1", cwd=project)
    dropped = await headgate("dlq", "readings", "drop", "--all", "--json", cwd=project)
    empty = await headgate("dlq", "readings", cwd=project)

    assert [line.split()[0] for line in listed.out.splitlines()] == ["id", "1", "2", "3"]
    assert "temp is text" in listed.out
    assert '{"temp": "warm", "at": 2}' in shown.out
    assert (retried.code, retried.out) == (0, "retried 1\n")
    assert dropped.json == {"dropped": 2}
    assert empty.out == "no dead letters\n"
    assert app.letters == {}


async def test_text_of_clients_is_printed_without_markup(project: Path, app: FakeApp) -> None:
    """Client ids and reasons hold text of clients: it must not format output or move the cursor."""
    app.letters = {1: replace(a_letter(1), client="[/b]\x1b[2Jx", reason="\x1b]0;title\x07 is [red]no[/red] number")}

    listed = await headgate("dlq", "readings", cwd=project, environ={"COLUMNS": "160"})
    shown = await headgate("dlq", "readings", "show", "1", cwd=project)

    for finished in (listed, shown):
        assert (finished.code, "\x1b" in finished.out, "\x07" in finished.out) == (0, False, False)
        assert "[/b] [2Jx" in finished.out
        assert "is [red]no[/red] number" in finished.out


async def test_an_unknown_sink_is_answered_with_the_nearest(project: Path) -> None:
    """Names are typed from memory."""
    finished = await headgate("dlq", "reading", cwd=project)

    assert finished.code == 1
    assert "there is no sink 'reading'; did you mean 'readings'?" in finished.err


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("retry",), 2, "ids, or --all"),
        (("drop", "1", "--all"), 2, "ids, or --all"),
        (("show",), 2, "show needs an id"),
        (("list", "1"), 2, "takes no ids"),
        (("show", "99"), 1, "sink 'readings' has no dead letter 99"),
        (("retry", "1", "99"), 1, "1 of the 2 ids"),
        (("explode",), 2, "explode"),
    ],
)
async def test_a_wrong_request_is_refused_with_its_reason(
    project: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    """Above all, no dead letter is dropped by a slip."""
    finished = await headgate("dlq", "readings", *arguments, cwd=project)

    assert finished.code == code
    assert said in finished.err


async def test_an_unknown_sink_has_no_dead_letters(project: Path) -> None:
    """An empty list would look as if all were well."""
    finished = await headgate("dlq", "readngs", cwd=project)

    assert (finished.code, "readngs" in finished.err) == (1, True)
