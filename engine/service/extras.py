"""Extras of the distribution: the libraries of its optional parts."""

from __future__ import annotations

import re
from importlib.metadata import requires

_OF_EXTRA = re.compile(r"""([^;]+);.*\bextra == ['"]([^'"]+)['"]""")


def install_command(extra: str) -> str:
    """Return the command that installs the libraries of an extra; a name that is no extra is taken for a library.

    It does not name the extra itself: pip could look for ``headgate`` on a package index, where the name is not ours.
    """
    found = (_OF_EXTRA.match(line) for line in requires("headgate") or ())
    libraries = [match[1].strip() for match in found if match is not None and match[2] == extra]
    return "pip install " + " ".join(f"'{library}'" for library in libraries or [extra])
