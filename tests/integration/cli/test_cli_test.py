"""``headgate test``: a rule's cases from the command line, in a project as ``headgate init`` makes it."""

from __future__ import annotations

from pathlib import Path

from support.command import headgate

RULE = "plant/rules/hot_rooms.sql"


async def test_the_cases_of_a_new_project_hold(tmp_path: Path) -> None:
    """The project of `init` is the first example of a test that users see."""
    await headgate("init", "plant", cwd=tmp_path)

    finished = await headgate("test", "--project", "plant", cwd=tmp_path)
    named = await headgate("test", "hot_rooms", cwd=tmp_path / "plant")

    assert (finished.code, finished.out, finished.err) == (0, "OK: 3 cases\n", "")
    assert (named.code, named.out) == (0, finished.out)


async def test_a_changed_rule_fails_with_the_position_of_its_case(tmp_path: Path) -> None:
    """This is what the cases are for."""
    await headgate("init", "plant", cwd=tmp_path)
    rule = tmp_path / RULE
    rule.write_text(rule.read_text().replace("> 30", ">= 30"))

    finished = await headgate("test", "--project", "plant", cwd=tmp_path)
    as_json = await headgate("test", "--project", "plant", "--json", cwd=tmp_path)

    assert (finished.code, as_json.code) == (1, 1)
    assert "failed: a room at thirty degrees is not hot" in finished.out
    assert "rules/hot_rooms.test.yaml:11:5: error: 1 row came out instead of 0" in finished.out
    assert finished.out.endswith("3 cases, 1 failed\n")
    assert [case["ok"] for case in as_json.json["cases"]] == [True, False, True]
    assert as_json.json["ok"] is False


async def test_no_case_is_a_failure(tmp_path: Path) -> None:
    """A pipeline that tests nothing must not be green."""
    await headgate("init", "plant", cwd=tmp_path)
    (tmp_path / "plant" / "rules" / "hot_rooms.test.yaml").unlink()

    finished = await headgate("test", "--project", "plant", cwd=tmp_path)

    assert finished.code == 1
    assert "there are no cases in" in finished.err
