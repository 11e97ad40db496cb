"""Asking for permissions that are not in the cache of the access control: several at a time, each with a deadline."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping, Sequence

from msgspec import Struct

from broker.access import Access, Action
from broker.hooks import ClientInfo

log = logging.getLogger(__name__)

_AT_ONCE = 32
"""Permissions of one client that are asked at a time.

One read can hold ten thousand publishes to different topics: a backend is not to get them all in one moment, and the
loop is not to make ten thousand tasks for one client. 32 is the in-flight window of MQTT clients and of EMQX.
"""


class Answers(Struct):
    """The result of asking: the actions that are allowed, and how many were denied because asking failed."""

    allowed: set[Action]
    failures: int = 0


async def ask_all(access: Access, client: ClientInfo, actions: Sequence[Action], timeout_s: float) -> Answers:
    """Ask for all `actions` of `client`; whatever fails or takes longer than `timeout_s` is denied and logged.

    Cancelling it cancels what is being asked.
    """
    answers = Answers(set())
    reasons: dict[str, int] = {}
    waiting = iter(actions)
    async with asyncio.TaskGroup() as group:
        for _ in range(min(_AT_ONCE, len(actions))):
            group.create_task(_ask_next(access, client, waiting, timeout_s, answers.allowed, reasons))
    if reasons:
        _log_failures(client, reasons)
        answers.failures = sum(reasons.values())
    return answers


async def _ask_next(
    access: Access,
    client: ClientInfo,
    waiting: Iterator[Action],
    timeout_s: float,
    allowed: set[Action],
    reasons: dict[str, int],
) -> None:
    """Take actions from `waiting`, which other tasks take from as well, until there are no more."""
    for action in waiting:
        answer: object = False
        try:
            async with asyncio.timeout(timeout_s):
                answer = await access.ask(client, action)
        except TimeoutError:
            reason = f"no answer within {timeout_s:g} s"
            reasons[reason] = reasons.get(reason, 0) + 1
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            reasons[reason] = reasons.get(reason, 0) + 1
        if answer is True:  # an answer of another type is a mistake, and a mistake lets nobody in
            allowed.add(action)


def _log_failures(client: ClientInfo, reasons: Mapping[str, int]) -> None:
    """Log one line for all failures of one read, with the most frequent reason."""
    reason = max(reasons, key=reasons.__getitem__)
    log.warning(
        "authorization failed and denies: client=%s peer=%s count=%d reason=%s",
        client.client_id,
        client.origin.peername,
        sum(reasons.values()),
        reason,
    )
