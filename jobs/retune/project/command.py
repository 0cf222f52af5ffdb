"""What the entry points that are no stage share: arguments in, exit code out."""

from __future__ import annotations

import sys
from importlib import import_module

from retune.job import exit_code_of, set_up_logging


def main(name: str) -> int:
    """Run `retune.project.<name>` with the process's arguments.

    Returns:
        0, or the exit code of what went wrong (see `retune.errors`).
    """
    set_up_logging()
    return exit_code_of(name, lambda: import_module(f"retune.project.{name}").run(sys.argv[1:]))
