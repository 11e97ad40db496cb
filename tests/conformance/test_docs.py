"""The documentation: tables are current and complete, snippets work."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
import yaml

from connectors import KINDS, load_kind
from engine import docs
from engine.config.project import load_project
from engine.config.settings import Settings
from engine.language.events import EVENTS
from engine.language.functions import FUNCTIONS
from engine.language.sql import check_rule

READMES = ("README.md", "engine/README.md", "connectors/README.md")


def text_of(name: str) -> str:
    return (docs.ROOT / name).read_text("utf-8")


def snippets(language: str) -> list[tuple[str, str]]:
    pattern = re.compile(rf"^```{language}\n(.*?)^```", re.DOTALL | re.MULTILINE)
    return [(name, block) for name in READMES for block in pattern.findall(text_of(name))]


def test_generated_files_are_current() -> None:
    """`python -m engine.docs` writes them."""
    stale = [str(path) for path, text in docs.generate() if not path.exists() or path.read_text("utf-8") != text]

    assert stale == []


def test_every_table_is_in_a_readme() -> None:
    """A table that no README holds documents nothing."""
    held = {name for readme in READMES for name in re.findall(r"<!-- begin: ([a-z-]+) -->", text_of(readme))}

    assert held == set(docs.TABLES)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_sink_is_documented_with_all_its_options(kind: str) -> None:
    """An option that is not in the reference does not exist for its users."""
    text = text_of("connectors/README.md")
    section = re.split(r"^### ", text, flags=re.MULTILINE)
    own = next(part for part in section if part.startswith(f"{kind}\n"))
    options = load_kind(kind).Config.model_fields

    assert f"[`{kind}`](/connectors/README.md#{kind})" in text
    assert [name for name in options if f"`{name}" not in own and f"`{name}" not in text] == []


def test_every_function_event_and_setting_is_documented() -> None:
    """An option that is not in the reference does not exist for its users."""
    text = text_of("engine/README.md")

    assert [name for name in FUNCTIONS if f"`{name}(" not in text] == []
    assert [event.topic for event in EVENTS.values() if f"`{event.topic}`" not in text] == []
    assert [name for name in Settings.model_fields if f"`{name}" not in text] == []


def test_every_option_and_function_has_a_description() -> None:
    """A row without a description is a hole."""
    rows = [row for name in READMES for row in re.findall(r"^\| `.*$", text_of(name), re.MULTILINE)]

    assert rows
    assert [row for row in rows if row.endswith("|  |") or row.count("|") < 3] == []


@pytest.mark.parametrize("name", ["headgate", "connectors"])
def test_schemas_have_the_keys_of_the_loader(name: str) -> None:
    """An editor must not know fewer keys than the loader."""
    schema = json.loads(text_of(f"docs/{name}.schema.json"))

    expected = set(Settings.model_fields) if name == "headgate" else {"connections", "sinks", "sources"}
    assert set(schema["properties"]) == expected


@pytest.mark.parametrize(("readme", "block"), snippets("yaml"))
def test_yaml_snippets_load(readme: str, block: str, tmp_path: Path) -> None:
    """A snippet is copied before it is read."""
    value = yaml.safe_load(block)
    sections = ("sinks", "connections", "sources")
    if "type" in value:
        block = yaml.safe_dump({"sinks": {"example": value}})
    elif len(value) == 1 and not set(value) & set(sections) and "type" in next(iter(value.values()), {}):
        block = yaml.safe_dump({"sinks": value})
    is_connectors = bool(set(yaml.safe_load(block)) & set(sections))
    (tmp_path / ("connectors.yaml" if is_connectors else "headgate.yaml")).write_text(block)
    environ = dict.fromkeys(re.findall(r"\$\{env:(\w+)\}", block), "postgresql://u:p@h/d")

    project = load_project(tmp_path, load_kind, environ)

    assert [problem.message for problem in project.problems] == []


@pytest.mark.parametrize(("readme", "block"), snippets("sql"))
def test_sql_snippets_compile(readme: str, block: str) -> None:
    """The same for rules."""
    assert check_rule(block) == []


LINK = re.compile(r"\]\(([^)\s]+)\)")
PAGES = sorted(
    path
    for path in docs.ROOT.rglob("*.md")
    if not any(part.startswith(".") or part == "data" for part in path.relative_to(docs.ROOT).parts[:-1])
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(docs.ROOT)))
def test_links_point_to_files_and_headings(page: Path) -> None:
    """A renamed file or heading breaks links without any other sign."""
    assert [
        link for link in LINK.findall(page.read_text("utf-8")) if not is_external(link) and not resolves(page, link)
    ] == []


def is_external(link: str) -> bool:
    return link.startswith(("https://", "http://", "mailto:"))


def resolves(page: Path, link: str) -> bool:
    """Whether a link of `page` has a target; as on the code host, a leading slash is the root of the repository."""
    name, _, heading = link.partition("#")
    target = page if not name else docs.ROOT / name[1:] if name.startswith("/") else page.parent / name
    return target.exists() and (not heading or heading in headings(target))


def headings(page: Path) -> set[str]:
    """Return the anchors of a page: headings in lower case, with dashes for spaces and without other punctuation."""
    titles = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}
