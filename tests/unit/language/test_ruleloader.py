"""The loader of the rules folder: the files that are rules, and the reuse of compiled rules between loads."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from engine.language.ruleloader import LoadedRules, RuleLoader
from engine.language.ruleset import Ack, Rule
from engine.language.sql import Statement, parse

HOT = 'INSERT INTO a SELECT payload.temp AS temp FROM "t" WHERE payload.temp > 30'
COLD = HOT.replace(">", "<")


class CountingParser:
    """A parser that records the statements it parses."""

    def __init__(self) -> None:
        self.parsed: list[str] = []

    def __call__(self, sql: str) -> Statement:
        self.parsed.append(sql)
        return parse(sql)


class Folder:
    """A rules folder and the loader that reads it again and again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.parser = CountingParser()
        self.loader = RuleLoader(self.parser)

    def write(self, rule_id: str, text: str) -> None:
        (self.path / f"{rule_id}.sql").write_text(text)

    def load(self, *sink_ids: str, ack: Ack = "buffer") -> LoadedRules:
        return self.loader.load(self.path, self.path, sink_ids or ("a",), ack)

    def rules(self, *sink_ids: str, ack: Ack = "buffer") -> dict[str, Rule]:
        return self.load(*sink_ids, ack=ack).ruleset.rules


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def test_a_statement_is_parsed_once(folder: Folder) -> None:
    """Checking and compiling take the parsed statement, at every kind of outcome."""
    folder.write("good", HOT)
    folder.write("unknown_function", 'INSERT INTO a SELECT nope(1) AS x FROM "t"')
    folder.write("unknown_sink", 'INSERT INTO b SELECT * FROM "t"')
    folder.write("syntax", "SELECT")
    loaded = folder.load()
    assert list(loaded.ruleset.rules) == ["good"]
    assert len(folder.parser.parsed) == loaded.compiled == 4


def test_an_unchanged_file_keeps_its_rule(folder: Folder) -> None:
    """The same object, by which a reload finds the changed rules."""
    folder.write("hot", HOT)
    folder.write("cold", COLD)
    before = folder.rules()
    folder.write("cold", HOT)
    loaded = folder.load()
    after = loaded.ruleset.rules
    assert after["hot"] is before["hot"]
    assert after["cold"].compiled is not before["cold"].compiled
    assert loaded.compiled == 1
    assert len(folder.parser.parsed) == 3


def test_a_file_written_again_with_the_same_text_keeps_its_rule(folder: Folder) -> None:
    """Editors and deployment tools touch files that they do not change."""
    folder.write("hot", HOT)
    before = folder.rules()
    folder.write("hot", HOT)
    assert folder.rules()["hot"] is before["hot"]


def test_an_edit_that_keeps_size_and_times_is_seen(folder: Folder) -> None:
    """Modification times are too coarse to distinguish two edits within one clock tick."""
    folder.write("hot", HOT)
    file = folder.path / "hot.sql"
    stat = file.stat()
    before = folder.rules()
    folder.write("hot", COLD)
    os.utime(file, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert folder.rules()["hot"].compiled is not before["hot"].compiled


def test_a_renamed_file_is_compiled_again(folder: Folder) -> None:
    """The compiled function knows the id of its rule and the path of its file."""
    folder.write("hot", HOT)
    before = folder.rules()
    (folder.path / "hot.sql").rename(folder.path / "warm.sql")
    after = folder.rules()
    assert list(after) == ["warm"]
    assert after["warm"].compiled is not before["hot"].compiled


def test_a_changed_default_takes_effect_without_compiling(folder: Folder) -> None:
    """``rules: {ack: …}`` of headgate.yaml is read at every load; an option of the file still overrides it."""
    folder.write("hot", HOT)
    folder.write("fixed", f"-- ack: buffer\n{HOT}")
    before = folder.rules()
    after = folder.rules(ack="receive")
    assert after["hot"].ack == "receive"
    assert after["hot"].compiled is before["hot"].compiled
    assert after["fixed"] is before["fixed"]


def test_sinks_that_come_and_go_are_checked_at_every_load(folder: Folder) -> None:
    """A rule becomes valid with its sink and invalid without, though its file stays as it is."""
    folder.write("hot", HOT)
    before = folder.rules("a")
    refused = folder.load("b")
    assert refused.ruleset.rules == {}
    assert [problem.message for problem in refused.problems] == ["unknown sink 'a'"]
    again = folder.load("a", "b")
    assert again.problems == []
    assert again.ruleset.rules["hot"].compiled is before["hot"].compiled
    assert len(folder.parser.parsed) == 1


def test_another_sink_leaves_rules_the_same(folder: Folder) -> None:
    """A sink added to connectors.yaml changes no rule that does not name it."""
    folder.write("hot", HOT)
    assert folder.rules("a", "b")["hot"] is folder.rules("a")["hot"]


def test_problems_of_an_unchanged_file_are_reported_again(folder: Folder) -> None:
    """Each load reports on the whole folder, not only on changed files."""
    folder.write("counts", 'SELECT * FROM "t"')
    assert folder.load().problems == folder.load().problems != []


def test_a_removed_file_is_forgotten(folder: Folder) -> None:
    """The loader keeps as much as the folder holds."""
    folder.write("hot", HOT)
    folder.rules()
    (folder.path / "hot.sql").unlink()
    assert folder.rules() == {}
    folder.write("hot", HOT)
    folder.rules()
    assert len(folder.parser.parsed) == 2


def test_problems_come_in_the_order_of_the_text(tmp_path: Path) -> None:
    """A report is read from the top of the file."""
    (tmp_path / "r.sql").write_text('SELECT uper(a) AS a FROM "$events/x"\n-- ack: buffer\n')
    problems = RuleLoader().load(tmp_path, tmp_path, ["a"]).problems
    assert [problem.position and problem.position.line for problem in problems] == [1, 1, 1, 2]


@pytest.mark.parametrize(("name", "shown"), [(b"r\xe4ume.sql", "r?ume.sql"), (b"a\x1bb.sql", "a?b.sql")])
def test_file_name_with_unprintable_characters_is_an_error(tmp_path: Path, name: bytes, shown: str) -> None:
    """The name is the rule's id, which goes into tables, JSON and metrics."""
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text('SELECT * FROM "t"')

    (problem,) = RuleLoader().load(tmp_path, tmp_path, []).problems

    assert (problem.path, problem.severity) == (shown, "error")


def test_hidden_files_are_not_rules(tmp_path: Path) -> None:
    """Emacs locks a file with a dangling symbolic link beside it; macOS archives add ._ files."""
    (tmp_path / "hot.sql").write_text('SELECT * FROM "t"')
    (tmp_path / ".#hot.sql").symlink_to("me@here.4711:1700000000")
    (tmp_path / "._hot.sql").write_bytes(b"\x00\x05\x16\x07")

    loaded = RuleLoader().load(tmp_path, tmp_path, [])

    assert list(loaded.ruleset.rules) == ["hot"]
    assert [problem.severity for problem in loaded.problems] == ["warning"]
