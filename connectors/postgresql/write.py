"""One write of a batch over one connection: all of it in one transaction, then without the rows at fault."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import asyncpg

from connectors._shared.isolation import VALUE_ERRORS, reason_of
from connectors.postgresql.errors import is_drivers_own, is_fault_of_row
from connectors.postgresql.statement import Copy, Group, PostgresPlanner, for_retry, without_fault
from engine.connector import ALL_STORED, Deadline, Failures
from engine.errors import NotConnectedError, RejectError, SplitError
from engine.model.record import Batch

if TYPE_CHECKING:
    Connection = asyncpg.Connection[Any] | asyncpg.pool.PoolConnectionProxy[Any]


@dataclass(frozen=True, slots=True)
class BatchWrite:
    """Stores the groups of a batch over a connection."""

    connection: Connection
    planner: PostgresPlanner
    where: str
    """The server, as reasons name it."""
    deadline: Deadline
    prepared_statements: bool

    async def store(self, batch: Batch, groups: Sequence[Group]) -> Failures:
        """Store `groups`, which are planned for `batch`. Return the rows at fault; all others are stored."""
        try:
            await self._store_all(groups)
        except VALUE_ERRORS:
            return await self._store_checked(batch)
        except asyncpg.PostgresError as error:
            return await (self._store_checked(batch) if is_drivers_own(error) else self._recover(error, groups))
        return ALL_STORED

    async def _store_checked(self, batch: Batch) -> Failures:
        """Store `batch` with each value checked on its own: the driver could not encode one, and has sent nothing."""
        planned = self.planner.plan(batch, check_all=True)
        try:
            await self._store_all(planned.groups)
        except VALUE_ERRORS as error:
            message = f"the driver can't encode a value: {reason_of(error)}"
            if len(batch) > 1:
                raise SplitError(message) from error
            return Failures({0: RejectError(message)})
        except asyncpg.PostgresError as error:
            return planned.failures | await self._recover(error, planned.groups)
        return planned.failures

    async def _recover(self, error: asyncpg.PostgresError, groups: Sequence[Group]) -> Failures:
        """Store the rows that are not at fault. Raise `error` again if it is not about a row."""
        if not is_fault_of_row(error):
            raise error
        return await self._store_without_faults(groups)

    async def _store_all(self, groups: Sequence[Group]) -> None:
        if len(groups) == 1 and (self.prepared_statements or isinstance(groups[0].statement, Copy)):
            await groups[0].statement.store(self.connection, groups[0].rows)
            return
        # A pooler of transactions gives statements outside of one to any server.
        async with self.connection.transaction():
            for group in groups:
                await group.statement.store(self.connection, group.rows)

    async def _store_without_faults(self, groups: Sequence[Group]) -> Failures:
        await need_unchanged(self.planner, self.connection, self.where)
        failures = ALL_STORED
        async with self.connection.transaction():
            # A deferred constraint would otherwise fail at the commit, for all rows.
            await self.connection.execute("SET CONSTRAINTS ALL IMMEDIATE")
            waiting = [for_retry(group) for group in reversed(groups)]
            while waiting:
                if len(waiting) + len(failures) > 1 and self.deadline.is_half_over():
                    raise SplitError(f"{self.where} refuses so many rows that the rest would come too late")
                group = waiting.pop()
                try:
                    async with self.connection.transaction():
                        await group.statement.store(self.connection, group.rows)
                except asyncpg.PostgresError as error:
                    if not is_fault_of_row(error):
                        raise
                    rest, failure = without_fault(group, error)
                    failures |= failure
                    waiting += reversed(rest)
        return failures


async def need_unchanged(planner: PostgresPlanner, connection: Connection, where: str) -> None:
    """Raise `NotConnectedError` where the table has changed: the driver remembers types by connection."""
    if await planner.has_changed(connection):
        raise NotConnectedError(f"{where}: the table has changed")
