"""Receipts: the answer to a run of messages, and the holds that acknowledgements wait for.

Everything that takes messages over answers with a `Receipt`: the exchange, the application's hooks, and the two joined.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final, Protocol

from msgspec import Struct


class Hold(Protocol):
    """A condition that acknowledgements wait for. Once ``done``, ``failed`` says that they must not be sent."""

    @property
    def done(self) -> bool: ...
    @property
    def failed(self) -> bool: ...
    def add_done_callback(self, callback: Callable[[], None], /) -> None:
        """Call `callback` on the event loop when done; at once when done already."""


class Receipt(Struct, frozen=True):
    """The answer to a run of messages: the condition of their acknowledgement, and a reason code for each.

    ``codes`` has one MQTT 5 reason code a message, or is None where all are accepted with 0x00. Codes of 0x80 and up
    are refusals: a refused message was not taken over, and nobody waits for it.
    """

    hold: Hold | None = None
    codes: bytes | bytearray | None = None


ACCEPTED: Final = Receipt()
"""All messages are accepted and may be acknowledged at once."""


def refusing(count: int, refused: Mapping[int, int], hold: Hold | None = None) -> Receipt:
    """Return the receipt of `count` messages of which `refused`, by index, are refused with these reason codes."""
    codes = bytearray(count)
    for index, code in refused.items():
        codes[index] = code
    return Receipt(hold, codes)


def join(first: Hold | None, second: Hold | None) -> Hold | None:
    """Return a hold that is done when both are, and failed when either is."""
    if second is None or second is first:
        return first
    if first is None:
        return second
    return _JoinedHold((first, second))


def join_all(holds: Sequence[Hold]) -> Hold | None:
    """Return a hold that is done when all `holds` are, and failed when any is; None where there are no holds."""
    if not holds:
        return None
    distinct = {id(hold): hold for hold in holds}  # copies that wait for one group commit share its hold
    if len(distinct) == 1:
        return holds[0]
    return _JoinedHold(tuple(distinct.values()))


class _JoinedHold:
    """Several holds as one. Waits for all of them even where one has failed: only then is the outcome of all known."""

    __slots__ = ("_holds",)

    def __init__(self, holds: tuple[Hold, ...]) -> None:
        self._holds = holds

    @property
    def done(self) -> bool:
        return all(hold.done for hold in self._holds)

    @property
    def failed(self) -> bool:
        return any(hold.failed for hold in self._holds)

    def add_done_callback(self, callback: Callable[[], None], /) -> None:
        for hold in self._holds:
            if not hold.done:
                hold.add_done_callback(partial(self.add_done_callback, callback))  # then look for the next one
                return
        callback()
