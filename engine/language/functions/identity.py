"""Random numbers and unique ids."""

from __future__ import annotations

from random import Random, SystemRandom

from engine.language.functions.registry import function

_random: Random = SystemRandom()


def use_random(source: Random) -> Random:
    """Take random numbers from `source` from now on. Return the previous source."""
    global _random
    previous, _random = _random, source
    return previous


@function(("floor(random())", 0), pure=False)
def random() -> float:
    """Return a random float from 0 (included) to 1 (excluded)."""
    return _random.random()


@function(("strlen(uuid_v4())", 36), pure=False)
def uuid_v4() -> str:
    """Return a new random UUID (version 4) with hyphens."""
    digits = uuid_v4_no_hyphen()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@function(("strlen(uuid_v4_no_hyphen())", 32), pure=False)
def uuid_v4_no_hyphen() -> str:
    """Return a new random UUID (version 4) without hyphens."""
    # RFC 9562: four bits are the version (4), two bits the variant (binary 10).
    bits = _random.getrandbits(128) & ~(0xF << 76 | 0x3 << 62) | 4 << 76 | 2 << 62
    return f"{bits:032x}"
