"""The topic stage: the interface for changing topics between a client and everything else, both ways.

Topic rewriting, mountpoints, delayed publishes and a guard of ``$SYS`` are kinds of it. Without a stage topics stay as
they are, for one comparison a read and one a copy.

    PUBLISH, will          access control ──> publish() ──> hook, retained messages, routing
    SUBSCRIBE, UNSUBSCRIBE access control ──> subscription() ──> session, router, retained messages
    delivery               session ──> delivery() ──> PUBLISH to the client

So permissions are about the topics that a client names; rules, sessions and retained messages have the changed ones.
Acknowledgements are unaffected. Methods are called for every message: they must neither block nor raise.
"""

from __future__ import annotations

from typing import Protocol

from msgspec import Struct

from broker.hooks import ClientInfo, IncomingPublish
from broker.receipt import Hold


class Taken(Struct, frozen=True):
    """A publish that the stage keeps for itself. It is acknowledged when `hold` is done, and routed to nobody now."""

    hold: Hold | None = None


class TopicStage(Protocol):
    """Changes the topics of clients."""

    def publish(self, client: ClientInfo, publish: IncomingPublish) -> str | int | Taken:
        """Return the topic name to use for a PUBLISH or a will, the reason code to refuse it with, or `Taken`.

        A refusal has the consequences of one by access control: MQTT 3 clients are not told.
        """

    def subscription(self, client: ClientInfo, topic_filter: str) -> str | int:
        """Return the filter to use in a SUBSCRIBE or UNSUBSCRIBE, or the reason code to refuse the subscription with.

        `topic_filter` is well-formed and given without ``$share/name/``. Equal filters of one client have to become
        equal filters as long as its session lasts: else it could not unsubscribe.
        """

    def delivery(self, client: ClientInfo, topic: str) -> str:
        """Return the topic name that `client` sees in a message published to `topic`."""
