"""Which of a batch's records go where: routing templates rendered for each record, records grouped by what came out.

Order is kept within a group. A record whose route can't be rendered fails alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from engine.errors import DeliveryError, RejectError
from engine.language.template import Template
from engine.model.record import Batch

Route = tuple[str, ...]


def columns_for(batch: Batch, templates: Sequence[Template]) -> Sequence[Mapping[str, Any]]:
    """What `templates` are rendered with, one each record: the row, unless one asks for the record itself (``_id``)."""
    if any(name.startswith("_") for template in templates for name in template.names):
        return [record.columns() for record in batch.records]
    return batch.rows


class Routing:
    """Groups records by one or more templates. Where all are constant, nothing is rendered at all."""

    def __init__(self, *templates: Template) -> None:
        self._templates = templates
        self.constant: Route | None = None
        """The only route there is, if it does not depend on the record."""
        if all(template.is_constant for template in templates):
            self.constant = tuple(template.render({}) for template in templates)

    def groups(self, batch: Batch, failures: dict[int, DeliveryError]) -> Iterator[tuple[Route, Sequence[int]]]:
        """Each route with the indices of its records; records that have none go to `failures`."""
        if self.constant is not None:
            yield self.constant, range(len(batch))
            return
        groups: dict[Route, list[int]] = {}
        for index, columns in enumerate(columns_for(batch, self._templates)):
            try:
                route = tuple([template.render(columns) for template in self._templates])
            except RejectError as error:
                failures[index] = error
            else:
                groups.setdefault(route, []).append(index)
        yield from groups.items()


def verdict(batch: Batch, failures: dict[int, DeliveryError]) -> Mapping[int, DeliveryError] | DeliveryError | None:
    """What to answer for a batch: nothing, its failures, or the one error that kept all of it from being stored."""
    if len(failures) < len(batch):
        return failures or None
    first = failures[0]
    is_one = all(error is first for error in failures.values())
    return first if is_one and not isinstance(first, RejectError) else failures
