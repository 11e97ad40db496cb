"""Test cases of rules: a case that fails is reported at the position of its expectation."""

from __future__ import annotations

from pathlib import Path

import pytest

from engine.language.cases import Report, run_cases

HOT = 'SELECT clientid AS device, payload.temp AS temp, missing FROM "sensors/#" WHERE payload.temp > 30'
EVENT = "event: {topic: sensors/1, clientid: c1, payload: '{\"temp\": 31.5}'}"


def run(folder: Path, cases: str, sql: str = HOT) -> Report:
    """Return the report on one rule with these cases."""
    rules = folder / "rules"
    rules.mkdir(exist_ok=True)
    (rules / "hot.sql").write_text(sql)
    (rules / "hot.test.yaml").write_text(cases)
    return run_cases(rules, folder)


def found(report: Report) -> list[tuple[str, int, int]]:
    """Return message, line and column of every problem of a report."""
    problems = [*report.problems, *(problem for result in report.results for problem in result.problems)]
    places = [(problem.message, problem.position) for problem in problems]
    return [(message, place.line, place.column) if place else (message, 0, 0) for message, place in places]


def test_rows_are_compared_by_the_columns_that_are_named(tmp_path: Path) -> None:
    """A time or an id differs in every run; a column that the case does not name may have any value."""
    report = run(tmp_path, f"cases:\n- name: hot\n  {EVENT}\n  rows: [{{device: c1}}]\n")

    assert [result.name for result in report.results] == ["hot"]
    assert found(report) == []


def test_undefined_is_null(tmp_path: Path) -> None:
    """As `headgate eval` prints it."""
    assert found(run(tmp_path, f"cases:\n- name: hot\n  {EVENT}\n  rows: [{{missing: null}}]\n")) == []


def test_different_value_is_shown_at_the_position_of_the_expected_one(tmp_path: Path) -> None:
    """Numbers keep their kind: to a sink 31 and 31.0 are different."""
    report = run(tmp_path, f"cases:\n- name: hot\n  {EVENT}\n  rows:\n  - {{device: c2, temp: 31.5, rpm: 1}}\n")

    row = '{"device":"c1","temp":31.5,"missing":null}'
    assert found(report) == [('device is "c1"', 5, 14), (f"rpm is not in the row {row}", 5, 35)]
    assert len(report.failed) == 1


@pytest.mark.parametrize(("rows", "said"), [("[]", "1 row came out instead of 0"), ("[{}, {}]", "instead of 2: {")])
def test_different_number_of_rows_fails(tmp_path: Path, rows: str, said: str) -> None:
    """An empty list of rows is an expectation as well."""
    ((message, line, column),) = found(run(tmp_path, f"cases:\n- name: hot\n  {EVENT}\n  rows: {rows}\n"))

    assert said in message
    assert (line, column) == (4, 3)


def test_evaluation_error_fails_its_case_only(tmp_path: Path) -> None:
    """In service it would be counted as failed, not as filtered."""
    cases = f"cases:\n- name: bad\n  event: {{topic: sensors/1, payload: x}}\n  rows: []\n- name: hot\n  {EVENT}\n"
    report = run(tmp_path, cases + "  rows: [{}]\n")

    assert [bool(result.problems) for result in report.results] == [True, False]
    assert "not JSON" in found(report)[0][0]


@pytest.mark.parametrize(
    ("cases", "sql", "said"),
    [
        ("cases: [", HOT, ("this is not YAML: did not find expected node content", 1, 9)),
        ("", HOT, ("there are no cases", 1, 1)),
        ("cases: []\nrules: 1", HOT, ("unknown key 'rules'", 2, 1)),
        (f"cases:\n- name: hot\n  {EVENT}\n  row: []", HOT, ("'cases[0].rows' is missing", 2, 3)),
        (f"cases:\n- name: hot\n  {EVENT}\n  rows: []", "SELECT nix() FROM t", ("there is no function nix", 1, 8)),
    ],
)
def test_mistake_in_either_file_is_shown_at_its_position(
    tmp_path: Path, cases: str, sql: str, said: tuple[str, int, int]
) -> None:
    """No case of the file runs or counts as passed."""
    report = run(tmp_path, cases, sql)

    assert said in found(report)
    assert report.results == []


def test_cases_of_a_missing_rule_are_an_error(tmp_path: Path) -> None:
    """A rule that is renamed without its cases would no longer be tested."""
    (tmp_path / "cold.test.yaml").write_text(f"cases:\n- name: hot\n  {EVENT}\n  rows: []\n")

    assert found(run_cases(tmp_path, tmp_path)) == [("there is no file cold.sql", 0, 0)]
    assert found(run_cases(tmp_path, tmp_path, ["nix"])) == [("there is no file nix.test.yaml", 0, 0)]
