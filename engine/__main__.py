"""``python -m engine`` is ``headgate``."""

from engine.cli import main

main()
