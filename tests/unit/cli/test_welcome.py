"""The text that `headgate run` prints after its start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from pydantic import SecretStr

from engine.cli.report import Style
from engine.cli.welcome import command_name, target_of, welcome
from support.admin_port import FakeApp


def test_the_welcome_shows_listeners_rules_sinks_and_commands() -> None:
    """In a few lines: it is the first text that a new user reads."""
    app = FakeApp()
    sinks = [("readings", "sqlite", "data/plant.db readings"), ("terminal", "console", "")]

    text = welcome(app.process(), app.rules(), sinks, "http://127.0.0.1:18083/api-docs", Style())

    assert "Headgate 0.1.0 runs the project in /plant" in text
    assert "devices  tcp 127.0.0.1:1883" in text
    assert "rules    climate\n" in text
    assert "sinks    readings (sqlite: data/plant.db readings)\n           terminal (console)" in text
    assert "journal  /plant/data" in text
    assert "API      http://127.0.0.1:18083/api-docs" in text
    assert " pub -t sensors/kitchen/climate" in text
    assert " status --project /plant" in text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"dsn": SecretStr("postgresql://plant:p@ss/w?rd@db.plant:5432/readings"), "table": "t"},
         "postgresql://db.plant:5432/readings t"),
        ({"dsn": SecretStr("host=db password=x"), "table": "t"}, "t"),
        ({"url": "https://example.com/in?key=x"}, "https://example.com/in"),
        ({"brokers": ("a:9092", "b:9092"), "topic": "rows/${device}"}, "a:9092,b:9092 rows/${device}"),
        ({"path": "data/plant.db", "table": None}, "data/plant.db"),
    ],
)  # fmt: skip
def test_a_target_is_shown_without_credentials(options: dict[str, object], text: str) -> None:
    """Terminal output ends up in screenshots and logs."""
    assert target_of(SimpleNamespace(**options)) == text


def test_many_rules_and_sinks_take_few_lines() -> None:
    """A thousand rules would scroll everything else away."""
    app = FakeApp()
    app.rule_views = [app.rule_views[0]] * 1000

    text = welcome(app.process(), app.rules(), [(f"s{n}", "console", "") for n in range(100)], None, Style())

    assert "and 994 more" in text
    assert "and 88 more" in text
    assert len(text.splitlines()) < 30


def test_a_port_other_than_1883_is_in_the_command() -> None:
    """A command that is shown must work as shown."""
    app = FakeApp()
    process = app.process()
    listener = replace(process.listeners[0], port=2883)
    other = replace(process, listeners=(listener,), project=str(Path.cwd()))

    text = welcome(other, [], [], None, Style())

    assert " pub -p 2883 -t " in text
    assert "--project" not in text


def test_commands_quote_folders_with_spaces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are copied as they are into a terminal in another folder."""
    app = FakeApp()
    process = app.process()
    other = replace(process, project="/my plant")

    assert " status --project '/my plant'" in welcome(other, [], [], None, Style())
    assert f"in {Path.cwd()}:\n" in welcome(other, [], [], None, Style())
    (tmp_path / "my plant" / "bin").mkdir(parents=True)
    (tmp_path / "link").symlink_to("my plant")
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr("sys.argv", [str(tmp_path / "link" / "bin" / "headgate")])
    assert command_name(tmp_path / "my plant") == "bin/headgate"
    assert command_name(Path.cwd()) == f"'{tmp_path}/my plant/bin/headgate'"


def test_without_a_listener_no_publish_is_suggested() -> None:
    """A command that is shown must work as shown."""
    app = FakeApp()
    process = app.process()
    other = replace(process, listeners=())

    text = welcome(other, [], [], None, Style())

    assert " pub " not in text
    assert " status" in text
