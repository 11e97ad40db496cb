"""The ledger, which decides the acceptance tests, must find wrong rows."""

from __future__ import annotations

import pytest

from support.ledger import Ledger, check_rows

LEDGER = Ledger("c", 6, {0, 1, 2, 4})
"""Six sent, of which 0, 2 and 4 are hot; all of those acknowledged."""


def rows(*numbers: int) -> list[tuple[str, int]]:
    return [("c", number) for number in numbers]


def test_exactly_the_promised_rows_are_accepted() -> None:
    """Otherwise every other finding is worthless."""
    check_rows(rows(0, 2, 4), [LEDGER])


@pytest.mark.parametrize(
    ("found", "finding"),
    [
        (rows(0, 4), "1 acknowledged messages of c are lost: \\[2\\]"),
        (rows(0, 2, 4, 5), "never sent"),
        (rows(0, 2, 4, 6), "never sent"),
        (rows(0, 4, 2), "out of order"),
        (rows(0, 2, 2, 4), "more than once"),
    ],
)
def test_wrong_rows_are_reported(found: list[tuple[str, int]], finding: str) -> None:
    """Lost, unknown, reordered and repeated rows are distinguished."""
    with pytest.raises(AssertionError, match=finding):
        check_rows(found, [LEDGER])


def test_repeated_rows_are_accepted_after_a_crash() -> None:
    """A row sent again may repeat a stretch, but first appearances stay in order."""
    check_rows(rows(0, 2, 0, 2, 4), [LEDGER], exact=False)
    with pytest.raises(AssertionError, match="out of order"):
        check_rows(rows(0, 4, 0, 2, 4), [LEDGER], exact=False)


def test_unacknowledged_rows_may_be_missing_or_present() -> None:
    """The client was promised nothing about it."""
    unsure = Ledger("c", 6, {0})
    check_rows(rows(0), [unsure])
    check_rows(rows(0, 2), [unsure])
