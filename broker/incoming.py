"""The way of a client's publishes: access control, the application's hook, the exchange, in this order."""

from __future__ import annotations

from collections.abc import Sequence

from broker.codec.packets import Publish
from broker.codec.reasons import Reason
from broker.core import Core
from broker.hooks import ClientInfo
from broker.receipt import ACCEPTED, Hold, Receipt, join


def take_in(core: Core, info: ClientInfo, fresh: list[Publish], now_ms: int) -> Receipt:
    """Hand on the publishes of one read; the receipt is that of the application and of the exchange joined."""
    core.stats.messages_received += len(fresh)
    if not info.bypasses_acl:
        return _take_in_permitted(core, info, fresh, now_ms)
    hook = core.hooks.published
    receipt = hook(info, fresh, now_ms) if hook is not None and fresh else ACCEPTED
    if receipt.codes is None:
        routed = core.exchange.publish(fresh, info, now_ms)
        return routed if receipt.hold is None else Receipt(join(receipt.hold, routed.hold), routed.codes)
    codes = bytearray(len(fresh))
    hold = _route_accepted(core, info, fresh, range(len(fresh)), receipt, codes, now_ms)
    return Receipt(hold, codes)


def _take_in_permitted(core: Core, info: ClientInfo, fresh: list[Publish], now_ms: int) -> Receipt:
    """Hand on what this client may publish. The rest counts as done in MQTT 3, which cannot say no [3: 3.3.5-2]."""
    codes = bytearray(len(fresh))
    allowed = []
    for index, publish in enumerate(fresh):
        if core.access.may_publish(info, publish.topic, publish.qos, publish.retain):
            allowed.append(index)
        else:
            core.stats.messages_refused += 1
            codes[index] = Reason.NOT_AUTHORIZED if info.protocol_version == 5 else Reason.SUCCESS
    hook = core.hooks.published
    offered = [fresh[index] for index in allowed]
    receipt = hook(info, offered, now_ms) if hook is not None and allowed else ACCEPTED
    hold = _route_accepted(core, info, fresh, allowed, receipt, codes, now_ms)
    return Receipt(hold, codes)


def _route_accepted(
    core: Core,
    info: ClientInfo,
    fresh: list[Publish],
    offered: Sequence[int],
    receipt: Receipt,
    codes: bytearray,
    now_ms: int,
) -> Hold | None:
    """Route what the application accepted of `offered` (indices of `fresh`), and note the codes of all of it.

    Returns the hold of both. MQTT 3 clients send everything from a refused publish on again, so none of that is routed.
    """
    accepted = []
    comes_again = False
    for position, index in enumerate(offered):
        code = 0 if receipt.codes is None else receipt.codes[position]
        if code >= 0x80:
            core.stats.messages_refused += 1
            codes[index] = code
            comes_again |= info.protocol_version < 5 and fresh[index].qos > 0
        elif not (comes_again and fresh[index].qos):
            accepted.append(index)
    routed = core.exchange.publish([fresh[index] for index in accepted], info, now_ms)
    if routed.codes is not None:
        for index, code in zip(accepted, routed.codes, strict=True):
            codes[index] = code
    return join(receipt.hold, routed.hold)
