"""What the entry points that are no stage share: arguments in, exit code out."""

from __future__ import annotations

import signal
import sys
from importlib import import_module
from typing import NoReturn

import psutil

from retune.job import exit_code_of, set_up_logging

_ENDS = (signal.SIGINT, signal.SIGTERM)


def main(entry_point: str, module: str | None = None) -> int:
    """Run an entry point with the process's arguments.

    Args:
        entry_point: Its name.
        module: Of `retune.project`; by default of the same name.

    Returns:
        0, or the exit code of what went wrong (see `retune.errors`).
    """
    set_up_logging()
    for number in _ENDS:
        signal.signal(number, _end)
    return exit_code_of(entry_point, lambda: import_module(f"retune.project.{module or entry_point}").run(sys.argv[1:]))


def _end(number: int, _: object) -> NoReturn:
    """End the processes below, and let whoever holds a run end it; MLflow, ended by Ctrl-C, sends a second signal."""
    for each in _ENDS:
        signal.signal(each, signal.SIG_IGN)
    for child in psutil.Process().children(recursive=True):
        child.terminate()
    raise SystemExit(128 + number)
