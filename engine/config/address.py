"""Addresses to listen on, as people write them."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BeforeValidator, WithJsonSchema

from broker.origin import Address


def parse_address(value: Any) -> Address:
    """Return the address of ``127.0.0.1:1883``, ``[::1]:1883``, or a port alone, which means the loopback.

    Raises `ValueError` with the forms that work.
    """
    if isinstance(value, Address):
        return value
    text = str(value).strip() if isinstance(value, (str, int)) and not isinstance(value, bool) else ""
    host, _, port = text.rpartition(":")
    if text.isdecimal():
        host, port = "127.0.0.1", text
    bracketed = host.startswith("[") and host.endswith("]")
    if not host or not port.isascii() or not port.isdecimal() or int(port) > 65535 or (":" in host and not bracketed):
        raise ValueError(f"{text or value!r} is not an address; write host:port, like 127.0.0.1:1883 or [::1]:1883")
    return Address(host.strip("[]"), int(port))


Bind = Annotated[
    Address,
    BeforeValidator(parse_address),
    WithJsonSchema({"type": ["string", "integer"], "examples": ["127.0.0.1:1883"]}),
]
