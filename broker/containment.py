"""Containment of internal errors: an exception that nobody expects is logged and costs no more than its own step."""

from __future__ import annotations

import logging
from collections.abc import Callable

from broker.hooks import ClientInfo

log = logging.getLogger(__name__)


def take_all_steps(info: ClientInfo, *steps: Callable[[], object]) -> None:
    """Call all `steps` in order. One that raises is logged and does not keep the others from being taken."""
    for step in steps:
        try:
            step()
        except Exception as error:
            log_internal_error(info, error)


def log_internal_error(info: ClientInfo, error: BaseException) -> None:
    """Log an exception that came up while a client was served or disconnected."""
    log.error("internal error while serving %s (%s)", info.client_id, info.origin.peername, exc_info=error)
