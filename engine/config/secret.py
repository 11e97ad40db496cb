"""Secrets: ``${env:NAME}`` and ``${file:/run/secrets/name}`` in any value of a configuration file.

They are resolved once, when the file is loaded, and redacted from then on in logs, the API and the command line. A
missing value is reported at its position, as any other mistake.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path

from engine.config.loader import Document, Node
from engine.errors import ConfigError, Problem
from engine.service.log import hide

FILE_BYTES_MAX = 64 << 10
"""The longest file of a secret; a longer one is a mistake in the path."""

_REFERENCE = re.compile(r"\$\{(env|file):([^}]*)\}")
_LIKE_A_SHELL = re.compile(r"\$(\{)?(\w+)(?(1)\})")


def resolve_secrets(document: Document, directory: Path, environ: Mapping[str, str]) -> Iterator[Problem]:
    """Replace the placeholders of secrets in a document's tree; paths are relative to `directory`."""
    seen: set[int] = set()
    for node in document.root.scalars() if document.root is not None else ():
        if id(node) in seen or not isinstance(node.value, str):
            continue
        seen.add(id(node))
        try:
            text = _resolved(node, directory, environ)
        except ConfigError as error:
            node.is_broken = True
            yield Problem(error.message, document.path, error.position, error.remedy)
            continue
        if node.is_secret:
            node.value = text
        elif (meant := _LIKE_A_SHELL.fullmatch(text)) and meant[2] in environ:
            message, remedy = f"the environment variable {meant[2]} is not read here", f"write ${{env:{meant[2]}}}"
            yield Problem(message, document.path, node.position, remedy, "warning")


def _resolved(node: Node, directory: Path, environ: Mapping[str, str]) -> str:
    def replace(match: re.Match[str]) -> str:
        kind, name = match[1], match[2].strip()
        secret = _from_environment(name, environ) if kind == "env" else _from_file(directory / name)
        hide([secret])
        node.is_secret = True
        return secret

    try:
        text = _REFERENCE.sub(replace, node.value)
    except ConfigError as error:
        raise ConfigError(error.message, position=node.position, remedy=error.remedy) from error
    if node.is_secret:
        hide([text])
    return text


def _from_environment(name: str, environ: Mapping[str, str]) -> str:
    value = environ.get(name)
    if value is not None:
        return value
    near = get_close_matches(name, environ, n=1, cutoff=0.8)
    remedy = f"did you mean {near[0]}?" if near else f"set it before starting: export {name}=…"
    raise ConfigError(f"the environment variable {name} is not set", remedy=remedy)


def _from_file(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
        if len(data) > FILE_BYTES_MAX:
            raise ConfigError(f"the secret in {path} is longer than {FILE_BYTES_MAX} bytes")
        return data.decode().rstrip("\r\n")
    except UnicodeDecodeError:
        raise ConfigError(f"the secret in {path} is not text", remedy="store it as UTF-8") from None
    except OSError as error:
        reason = error.strerror or str(error)
        raise ConfigError(
            f"the secret in {path} can't be read: {reason}", remedy="create it, or correct the path"
        ) from error
