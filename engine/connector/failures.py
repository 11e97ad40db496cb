"""The per-record result of a write: which records of a batch failed, and why."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from engine.errors import DeliveryError, DuplicateError, RejectError


class Failures(Mapping[int, DeliveryError]):
    """Errors of records by their index in the batch, immutable. Every record without one is stored.

    Empty, and therefore false, when the whole batch is stored. Results of parts are joined with ``|``; the right side
    wins where both have an error for a record.
    """

    __slots__ = ("_errors",)

    def __init__(self, errors: Mapping[int, DeliveryError] | None = None) -> None:
        self._errors: Mapping[int, DeliveryError] = errors or {}

    @classmethod
    def of(cls, indices: Iterable[int], error: DeliveryError) -> Failures:
        """Return the failures of records that share one error."""
        return cls(dict.fromkeys(indices, error))

    def __getitem__(self, index: int) -> DeliveryError:
        return self._errors[index]

    def __iter__(self) -> Iterator[int]:
        return iter(self._errors)

    def __len__(self) -> int:
        return len(self._errors)

    def __or__(self, other: Failures) -> Failures:
        if not other:
            return self
        return Failures({**self._errors, **other._errors}) if self else other

    def __repr__(self) -> str:
        return f"Failures({dict(self._errors)!r})"

    def moved(self, indices: Sequence[int]) -> Failures:
        """Return the failures of a part by their index in the batch: `indices` are the places of the part's records."""
        return Failures({indices[index]: error for index, error in self._errors.items()}) if self else self

    def or_raise(self, count: int) -> Failures:
        """Return self, or raise the one error that kept all `count` records of a batch from being stored.

        Rejections and duplicates are never raised: each is about one record, even if all records share it.
        """
        if len(self) < count or not count:
            return self
        errors = self._errors.values()
        first = next(iter(errors))
        if isinstance(first, (RejectError, DuplicateError)) or any(error is not first for error in errors):
            return self
        raise first


ALL_STORED = Failures()
"""The result of a write that stored every record."""
