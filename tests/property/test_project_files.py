"""Reading a project's files ends with a report for any content."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, ClassVar

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from engine.cli.report import render, render_json
from engine.config.loader import load_document
from engine.config.model import Model
from engine.config.project import load_project, locate
from engine.errors import ConfigError

PIECES = (
    "sinks:", "connections:", "sources:", "listeners:", "mqtt:", "api:", "rules:", "a:", "type: pipe", "type: x",
    "size: 5", "connection: a", "bind: 0.0.0.0:1", "token: ${env:T}", "${file:/nowhere}", "&a", "*a", "- ", "{", "}",
    "[", "]", ",", ": ", "\n", "\n  ", "\n    ", "\t", "'", '"', "#", "|", ">", "!!str", "---", "~", "1e400", "é温",
    "\x00", "%",
)  # fmt: skip


class PipeConfig(Model):
    type: str
    size: Annotated[int, Field(ge=1)]
    part: PipePart | None = None
    either: int | PipePart | list[str] = 1


class PipePart(Model):
    names: dict[str, int] = Field(default_factory=dict)


class Pipe:
    Config: ClassVar[type[BaseModel]] = PipeConfig


def load_kind(name: str) -> type[Pipe]:
    if name == "pipe":
        return Pipe
    raise ConfigError(f"there is no {name}")


texts = st.one_of(st.text(st.characters(codec="utf-8")), st.lists(st.sampled_from(PIECES), max_size=30).map("".join))


@given(texts)
def test_any_text_is_a_document_or_a_report_with_places(text: str) -> None:
    """A half-written file is what the loader sees at every save."""
    document = load_document(text, "f")

    for problem in document.problems:
        assert problem.position is not None
        assert problem.position.line >= 1
        assert problem.position.column >= 1


@given(texts, texts)
@settings(max_examples=300, deadline=None)
def test_any_two_files_are_a_project_or_a_report(settings_text: str, connectors_text: str) -> None:
    """A reload must not end the process, and the report on it must be printable."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "headgate.yaml").write_text(settings_text, "utf-8")
        (folder / "connectors.yaml").write_text(connectors_text, "utf-8")

        project = load_project(folder, load_kind, {"T": "t0k3n-secret"})
        locate(folder, {})

        render(project.problems, project.texts)
        render_json(project.problems)
