"""What becomes of the publishes a client sends: access control, the application's hook, the exchange, in this order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from broker.codec.packets import Publish
from broker.codec.reasons import Reason
from broker.core import Core
from broker.hooks import ClientInfo, Hold


def take_in(core: Core, info: ClientInfo, fresh: list[Publish], now_ms: int) -> tuple[bytearray, Hold | None]:
    """Hand on the publishes of one read; returns a reason code for each, and what their acknowledgement waits for."""
    core.stats.messages_received += len(fresh)
    if not info.superuser:
        return _take_in_permitted(core, info, fresh, now_ms)
    hook = core.hooks.published
    verdict = hook(info, fresh, now_ms) if hook is not None and fresh else None
    if verdict is None:
        return core.exchange.publish(fresh, info, now_ms), None
    if not verdict.refused:
        return core.exchange.publish(fresh, info, now_ms), verdict.hold
    codes = bytearray(len(fresh))
    _route_accepted(core, info, fresh, range(len(fresh)), verdict.refused, codes, now_ms)
    return codes, verdict.hold


def _take_in_permitted(
    core: Core, info: ClientInfo, fresh: list[Publish], now_ms: int
) -> tuple[bytearray, Hold | None]:
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
    verdict = hook(info, [fresh[index] for index in allowed], now_ms) if hook is not None and allowed else None
    refused = (verdict.refused if verdict is not None else None) or {}
    _route_accepted(core, info, fresh, allowed, refused, codes, now_ms)
    return codes, verdict.hold if verdict is not None else None


def _route_accepted(
    core: Core,
    info: ClientInfo,
    fresh: list[Publish],
    offered: Sequence[int],
    refused: Mapping[int, int],
    codes: bytearray,
    now_ms: int,
) -> None:
    """Route what the hook was offered (indices of `fresh`) and did not refuse, and note the reason codes of all of it.

    MQTT 3 clients send everything from a refused publish on again, so none of that is routed now.
    """
    accepted = []
    comes_again = False
    for position, index in enumerate(offered):
        code = refused.get(position)
        if code is not None:
            core.stats.messages_refused += 1
            codes[index] = code
            comes_again |= info.protocol_version < 5 and fresh[index].qos > 0
        elif not (comes_again and fresh[index].qos):
            accepted.append(index)
    routed = core.exchange.publish([fresh[index] for index in accepted], info, now_ms)
    for index, code in zip(accepted, routed, strict=True):
        codes[index] = code
