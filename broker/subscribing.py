"""What a client may subscribe to, and which retained messages that brings it. Pure functions."""

from __future__ import annotations

from broker.access import Access
from broker.codec.packets import Subscription
from broker.codec.reasons import Reason
from broker.config import BrokerConfig
from broker.errors import InvalidTopic, MalformedPacket, ProtocolError
from broker.hooks import ClientInfo
from broker.session import Session
from broker.topics import check_topic_filter, has_wildcard, split_shared


def check_subscription(
    subscription: Subscription, session: Session, info: ClientInfo, config: BrokerConfig, access: Access
) -> Reason | None:
    """The reason code a subscription is refused with, if it is. Raises `WireError` for what ends the connection."""
    full_filter = subscription.topic_filter
    try:
        share, topic_filter = split_shared(full_filter)
    except InvalidTopic:
        return Reason.TOPIC_FILTER_INVALID  # [4.8.2-1, 4.8.2-2]
    try:
        check_topic_filter(topic_filter, levels_max=len(topic_filter) + 1)
    except InvalidTopic as error:
        raise MalformedPacket(str(error)) from error  # [4.7.1-1, 4.7.1-2]
    if topic_filter.count("/") >= config.max_topic_levels:
        return Reason.TOPIC_FILTER_INVALID
    if share is not None and subscription.no_local:
        raise ProtocolError("no local on a shared subscription")  # [3.8.3-4]
    if share is not None and not config.shared_subscription:
        return Reason.SHARED_SUBSCRIPTIONS_NOT_SUPPORTED
    if not config.wildcard_subscription and has_wildcard(topic_filter):
        return Reason.WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED
    if len(session.subscriptions) >= config.max_subscriptions and full_filter not in session.subscriptions:
        return Reason.QUOTA_EXCEEDED
    if not info.superuser and not access.may_subscribe(info, topic_filter, subscription.qos):
        return Reason.NOT_AUTHORIZED
    return None


def wants_retained(subscription: Subscription, is_new: bool) -> bool:
    """Whether a subscription that was just made brings retained messages [3.3.1-9..11]; shared ones never do."""
    if subscription.topic_filter.startswith("$share/"):
        return False
    return subscription.retain_handling == 0 or (subscription.retain_handling == 1 and is_new)
