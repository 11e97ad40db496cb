"""The table of kinds: one line each, and what is said when a line or a library is missing."""

from __future__ import annotations

import sys

import pytest

import connectors
from connectors import load_kind
from engine.errors import ConfigError


def test_unknown_kind_is_told_the_nearest_name() -> None:
    """A typo in `type:` is the commonest mistake in connectors.yaml."""
    with pytest.raises(ConfigError) as caught:
        load_kind("postgres")
    assert caught.value.remedy == "did you mean postgresql?"


def test_kind_like_no_other_is_told_all_names() -> None:
    """Whoever asks for a kind that does not exist wants to know which do."""
    with pytest.raises(ConfigError) as caught:
        load_kind("zzz")
    assert "sqlite" in str(caught.value.remedy)


def test_missing_client_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel installs without client libraries, so this is what a first user of a kind meets."""
    monkeypatch.setitem(connectors.KINDS, "other", "surely_not_installed.sink:OtherSink")
    with pytest.raises(ConfigError) as caught:
        load_kind("other")
    assert "surely_not_installed" in caught.value.message
    assert caught.value.remedy == "pip install 'other'"


def test_one_kind_does_not_import_the_library_of_another() -> None:
    """A missing library must harm only the kind that needs it."""
    import subprocess

    program = "import sys, connectors; connectors.load_kind('file'); print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
