"""Hashes in lower-case hexadecimal."""

from __future__ import annotations

import hashlib
from typing import Any

from engine.language.functions._md4 import md4
from engine.language.functions.argument import binary, octets, word
from engine.language.functions.registry import function

_PYTHON_NAMES = {
    "md5": "md5", "sha": "sha1", "sha1": "sha1", "sha224": "sha224", "sha256": "sha256", "sha384": "sha384",
    "sha512": "sha512", "sha3_224": "sha3_224", "sha3_256": "sha3_256", "sha3_384": "sha3_384",
    "sha3_512": "sha3_512", "blake2b": "blake2b", "blake2s": "blake2s",
}  # fmt: skip
_NAMES = ("md4", *_PYTHON_NAMES)


@function(("md5('a')", "0cc175b9c0f1b6a831c399e269772661"))
def md5(data: str) -> str:
    """Return the MD5 hash of the data in lower-case hexadecimal. MD5 is not collision-resistant."""
    return hashlib.md5(binary("md5", 1, data), usedforsecurity=False).hexdigest()


@function(("sha('a')", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"))
def sha(data: str) -> str:
    """Return the SHA-1 hash of the data in lower-case hexadecimal. SHA-1 is not collision-resistant."""
    return hashlib.sha1(binary("sha", 1, data), usedforsecurity=False).hexdigest()


@function(("sha256('a')", "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"))
def sha256(data: str) -> str:
    """Return the SHA-256 hash of the data in lower-case hexadecimal."""
    return hashlib.sha256(binary("sha256", 1, data)).hexdigest()


@function(
    ("hash('sha1', 'a')", "86f7e437faa5a7fce15d1ddcb9eaeaea377667b8"),
    ("hash('md4', 'a')", "bde52cb31de33e46245e05fbdbd6fb24"),
)
def hash_(algorithm: str, data: Any) -> str:
    """Return the hash of the data in lower-case hexadecimal.

    `algorithm` is 'md4', 'md5', 'sha' or 'sha1', 'sha224' to 'sha512', 'sha3_224' to 'sha3_512', 'blake2b' or
    'blake2s'.
    """
    name = word("hash", 1, algorithm, _NAMES)
    plain = octets("hash", 2, data) if type(data) is bool else binary("hash", 2, data)
    return md4(plain) if name == "md4" else hashlib.new(_PYTHON_NAMES[name], plain, usedforsecurity=False).hexdigest()
