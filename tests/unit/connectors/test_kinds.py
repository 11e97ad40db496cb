"""The registry of kinds, and its errors for unknown kinds and missing client libraries."""

from __future__ import annotations

import sys

import pytest

import connectors
from connectors import load_kind
from engine.errors import ConfigError


def test_unknown_kind_suggests_the_nearest_name() -> None:
    """A typo in `type:` is the most common error in connectors.yaml."""
    with pytest.raises(ConfigError) as caught:
        load_kind("postgres")
    assert caught.value.remedy == "did you mean postgresql?"


def test_unknown_kind_without_a_near_name_lists_all_names() -> None:
    """The error lists the kinds there are."""
    with pytest.raises(ConfigError) as caught:
        load_kind("zzz")
    assert "sqlite" in str(caught.value.remedy)


def test_missing_client_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The wheel installs without client libraries, so new users of a kind see this error first."""
    monkeypatch.setitem(connectors.KINDS, "other", "surely_not_installed.sink:OtherSink")
    with pytest.raises(ConfigError) as caught:
        load_kind("other")
    assert "surely_not_installed" in caught.value.message
    assert caught.value.remedy == "pip install 'other'"


def test_one_kind_does_not_import_the_library_of_another() -> None:
    """A missing library must affect only the kind that needs it."""
    import subprocess

    program = "import sys, connectors; connectors.load_kind('file'); print('aiohttp' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout.strip() == "False"
