"""The named wire cases of tests/conformance/packets, as packets and bytes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from broker.codec import packets
from broker.codec.packets import Packet, Subscription, Will

_FOLDER = Path(__file__).parent.parent / "conformance" / "packets"
_BYTES = ("payload", "password", "correlation_data", "authentication_data")


@dataclass(frozen=True)
class ValidCase:
    name: str
    version: int
    data: bytes
    packet: Packet
    decode_only: bool


@dataclass(frozen=True)
class MalformedCase:
    name: str
    version: int
    data: bytes
    code: int


@cache
def valid_cases() -> list[ValidCase]:
    return [
        ValidCase(
            case["name"], case["version"], bytes.fromhex(case["hex"]), _packet(case["packet"]), "decode_only" in case
        )
        for case in yaml.safe_load((_FOLDER / "valid.yaml").read_text())
    ]


@cache
def malformed_cases() -> list[MalformedCase]:
    return [
        MalformedCase(case["name"], case["version"], bytes.fromhex(str(case["hex"])), case["code"])
        for case in yaml.safe_load((_FOLDER / "malformed.yaml").read_text())
    ]


def _packet(fields: dict[str, Any]) -> Packet:
    fields = _values(fields)
    if "will" in fields:
        fields["will"] = Will(**fields["will"])
    if "subscriptions" in fields:
        fields["subscriptions"] = [Subscription(**each) for each in fields["subscriptions"]]
    packet: Packet = getattr(packets, fields.pop("type"))(**fields)
    return packet


def _values(fields: dict[str, Any]) -> dict[str, Any]:
    """Text as bytes where the codec has bytes, pairs as tuples, in nested maps too."""
    return {name: _value(name, value) for name, value in fields.items()}


def _value(name: str, value: Any) -> Any:
    if isinstance(value, dict):
        return _values(value)
    if name in _BYTES:
        return value.encode()
    if name == "user_property":
        return [tuple(pair) for pair in value]
    return value
