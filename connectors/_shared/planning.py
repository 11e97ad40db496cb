"""Planning of the statements that store a batch in a relational database.

A *planner* turns a batch into *row groups*: records that one statement stores, with their values in its order. It does
so by the columns of a table, or by the user's own statement. Records that it can't place fail alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from operator import itemgetter
from typing import Any, Generic, Protocol, TypeVar

from connectors._shared.isolation import Isolated, isolate
from connectors._shared.routing import columns_for
from engine.connector import Failures
from engine.errors import HoldError, RejectError
from engine.language.template import Template
from engine.model.record import Batch, Row

PLANS_MAX = 256
"""Plans remembered, one for each set of columns that rows come with: more than any rule has. The bound is for rows
whose columns are named by devices."""

Values = tuple[Any, ...]
"""The values of a row, in the order of a statement's columns or parameters."""

StatementT = TypeVar("StatementT")
Plan = TypeVar("Plan")


class MisfitError(RejectError):
    """The columns of a row are not those of the table."""


@dataclass(frozen=True, slots=True)
class RowGroup(Generic[StatementT]):
    """Records of a batch that one statement stores; ``indices`` are their places in the batch."""

    statement: StatementT
    indices: Sequence[int]
    rows: Sequence[Values]

    def part(self, start: int, stop: int) -> RowGroup[StatementT]:
        """Return the records from `start` up to `stop`."""
        return RowGroup(self.statement, self.indices[start:stop], self.rows[start:stop])


@dataclass(frozen=True, slots=True)
class PlannedBatch(Generic[StatementT]):
    """The groups that store a batch, in order, and the records that have no place in the table."""

    groups: Sequence[RowGroup[StatementT]]
    failures: Failures


class WritePlanner(Protocol[StatementT]):
    """Chooses the statements that store a batch: by the columns of a table, or the user's own statement."""

    def plan(self, batch: Batch) -> PlannedBatch[StatementT]:
        """Plan `batch`. Raise `HoldError` where the table does not fit the options."""


def hold_if_all_misfit(failures: Failures, count: int) -> None:
    """Raise `HoldError` if all `count` records of a batch are misfits.

    To be called while no row has fitted the table: the rule or the table is wrong then, not the rows.
    """
    misfits = [error for error in failures.values() if isinstance(error, MisfitError)]
    if len(misfits) == count:
        raise HoldError(misfits[0].message, code=misfits[0].code)


class PlanCache(Generic[Plan]):
    """Plans by the columns that rows come with. Columns that can't be stored are remembered with their rejection."""

    def __init__(self) -> None:
        self._plans: dict[tuple[str, ...], Plan | RejectError] = {}

    def known(self, columns: tuple[str, ...]) -> Plan | RejectError | None:
        """Return the plan for `columns` if there is one."""
        return self._plans.get(columns)

    def get(self, columns: tuple[str, ...], make: Callable[[tuple[str, ...]], Plan]) -> Plan | RejectError:
        """Return the plan for `columns`, made when first asked for. What `make` raises otherwise is passed on."""
        plan = self._plans.get(columns)
        if plan is None:
            if len(self._plans) >= PLANS_MAX:
                self._plans.clear()
            try:
                plan = make(columns)
            except RejectError as error:
                plan = error.with_traceback(None)  # which would keep the rows of its frames in memory
            self._plans[columns] = plan
        return plan

    def clear(self) -> None:
        self._plans.clear()


class RowPicker:
    """Takes the values of rows that have exactly certain columns, in a fixed order."""

    def __init__(self, columns: Sequence[str]) -> None:
        self._column_counts = {len(columns)}
        self._only = columns[0] if len(columns) == 1 else None
        self._values = itemgetter(*columns)

    def pick(self, rows: Sequence[Row]) -> list[Values] | None:
        """Return the values of each row; None where a row has other columns."""
        if set(map(len, rows)) != self._column_counts:
            return None
        try:
            if self._only is not None:  # itemgetter of one key gives no tuple
                return [(row[self._only],) for row in rows]
            return list(map(self._values, rows))
        except KeyError:
            return None


def neighbours(rows: Sequence[Row]) -> Iterator[tuple[tuple[str, ...], range, Sequence[Row]]]:
    """Group neighbouring rows of equal columns: the columns, the indices of the rows, the rows."""
    start = 0
    for columns, group in groupby(rows, key=tuple):
        members = list(group)
        yield columns, range(start, start + len(members)), members
        start += len(members)


def parameters(
    batch: Batch, templates: Sequence[Template], convert: Callable[[Any], Any] | None = None
) -> Isolated[Values]:
    """Return the values of a user's statement for each record, one for each placeholder, through `convert` if given."""

    def values(columns: Any) -> Values:
        found = [template.value(columns) for template in templates]
        return tuple(found if convert is None else map(convert, found))

    return isolate(values, enumerate(columns_for(batch, templates)))
