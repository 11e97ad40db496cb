"""Grouping of a batch's records by destination: routing templates are rendered for each record.

Order is kept within a group. A record whose destination can't be rendered fails alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from connectors._shared.isolation import VALUE_ERRORS, rejection
from engine.connector import ALL_STORED, Failures
from engine.errors import DeliveryError, RejectError
from engine.language.template import Template
from engine.model.record import Batch

Destination = tuple[str, ...]
"""The rendered routing templates of a record: the path of its file, or the URL and headers of its request."""

Group = tuple[Destination, Sequence[int]]
"""A destination, and the indices of the records that go there."""


def columns_for(batch: Batch, templates: Sequence[Template]) -> Sequence[Mapping[str, Any]]:
    """Return the columns of each record: those of its row, and the record's own (``_id``) if a template names one."""
    if any(name.startswith("_") for template in templates for name in template.names):
        return [record.columns() for record in batch.records]
    return batch.rows


class Routing:
    """Groups records by one or more templates. Constant templates are rendered once, not for each record."""

    def __init__(self, *templates: Template) -> None:
        self._templates = templates
        self.constant: Destination | None = None
        """The only destination, if it does not depend on the record."""
        if all(template.is_constant for template in templates):
            self.constant = tuple(template.render({}) for template in templates)

    def group(self, batch: Batch) -> tuple[list[Group], Failures]:
        """Return the groups, in the order of their first records, and the records without a destination."""
        if self.constant is not None:
            return [(self.constant, range(len(batch)))], ALL_STORED
        groups: dict[Destination, list[int]] = {}
        errors: dict[int, DeliveryError] = {}
        for index, columns in enumerate(columns_for(batch, self._templates)):
            try:
                destination = tuple([template.render(columns) for template in self._templates])
            except (RejectError, *VALUE_ERRORS) as error:
                errors[index] = rejection(error)
            else:
                groups.setdefault(destination, []).append(index)
        return list(groups.items()), Failures(errors)
