"""The locked packages are those that pyproject.toml asks for. `scripts/lock` brings them in step."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[2]
LOCKS = ROOT / "scripts" / "requirements"
FILES = ("run", "test")
OWN = re.compile(r"^ *# +(via )?headgate[: (]", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pin:
    """A locked package."""

    version: str
    hashes: int
    is_direct: bool
    """Whether pyproject.toml names it; the others are what those need."""


def pins(name: str) -> dict[str, Pin]:
    """Return the packages that a lock file holds."""
    text = (LOCKS / f"{name}.txt").read_text("utf-8")
    parts = re.split(r"^(?=[a-z0-9])", text, flags=re.MULTILINE)[1:]
    return {
        canonicalize_name(head[1]): Pin(head[2], part.count("--hash=sha256:"), OWN.search(part) is not None)
        for part in parts
        if (head := re.match(r"([A-Za-z0-9._-]+)==(\S+)", part))
    }


def wanted(name: str) -> list[Requirement]:
    """Return the requirements of pyproject.toml that a lock file is made from."""
    written: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    extras, groups = written["project"]["optional-dependencies"], written["dependency-groups"]
    lines = [*written["project"]["dependencies"], *groups["build"], *(groups["dev"] if name == "test" else ())]
    lines += [line for extra in named_extras(extras["all"]) for line in extras[extra]]
    return [Requirement(line) for line in lines]


def named_extras(lines: list[str]) -> Iterator[str]:
    for line in lines:
        yield from Requirement(line).extras


@pytest.mark.parametrize("name", FILES)
def test_every_requirement_is_locked_within_its_bounds(name: str) -> None:
    """A lock that lags behind would install what pyproject.toml no longer allows."""
    locked = pins(name)

    unmet = [
        str(requirement)
        for requirement in wanted(name)
        if (pin := locked.get(canonicalize_name(requirement.name))) is None
        or not requirement.specifier.contains(pin.version)
    ]

    assert unmet == []


@pytest.mark.parametrize("name", FILES)
def test_nothing_is_locked_that_is_no_longer_required(name: str) -> None:
    """A package whose requirement went would still be installed."""
    direct = {package for package, pin in pins(name).items() if pin.is_direct}

    assert direct == {canonicalize_name(requirement.name) for requirement in wanted(name)}


@pytest.mark.parametrize("name", FILES)
def test_every_locked_package_has_its_hashes(name: str) -> None:
    """Without them an index could serve something else under the same version."""
    assert [package for package, pin in pins(name).items() if not pin.hashes] == []


def test_users_run_the_tested_versions() -> None:
    """The same versions in both files."""
    run, tested = ({package: pin.version for package, pin in pins(name).items()} for name in FILES)

    assert run.items() <= tested.items()


@pytest.mark.parametrize("name", FILES)
def test_a_lock_names_no_index(name: str) -> None:
    """Each installation uses the package index that is configured there."""
    text = (LOCKS / f"{name}.txt").read_text("utf-8")

    assert re.findall(r"\w+://\S+|--(?:index|extra-index|find-links)\S*", text) == []
