"""Remedies for a library that is not installed."""

from __future__ import annotations

from engine.service.extras import install_command


def test_an_extra_is_installed_by_its_libraries() -> None:
    """The name of the distribution is not ours on the package index, so that its extra could bring anything."""
    command = install_command("kafka")

    assert command.startswith("pip install 'aiokafka>=")
    assert " 'cramjam>=" in command
    assert "headgate" not in command


def test_another_name_is_taken_for_a_library() -> None:
    """A function of the user's own may need one that no extra has."""
    assert install_command("numpy") == "pip install 'numpy'"
