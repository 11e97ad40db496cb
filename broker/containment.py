"""Containment of internal errors: an exception that nobody expects is logged and costs no more than its own step."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from broker.hooks import ClientInfo

log = logging.getLogger(__name__)


@contextmanager
def contained(info: ClientInfo) -> Iterator[None]:
    """Log an exception of the body, and go on behind it: for the steps of an end, all of which must be taken."""
    try:
        yield
    except Exception as error:
        log_internal_error(info, error)


def log_internal_error(info: ClientInfo, error: BaseException) -> None:
    """Log an exception that came up while a client was served or disconnected."""
    log.error("internal error while serving %s (%s)", info.client_id, info.origin.peername, exc_info=error)
