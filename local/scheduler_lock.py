"""`make ui` and `make demo` share Airflow's database, but the tasks in it must have one scheduler."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator
from pathlib import Path


class SchedulerRuns(Exception):
    """Something runs for this RETUNE_HOME that would take, or lose, tasks."""


@contextlib.contextmanager
def hold_scheduler_lock(home: Path, shared: bool = False) -> Iterator[None]:
    """Hold the lock of `home` until the end of the block, or of the process.

    Args:
        home: RETUNE_HOME.
        shared: Others may hold it too, if they share it: a run of `make demo` does its own tasks only, but the
            scheduler of `make ui` takes whatever is in the database.

    Raises:
        SchedulerRuns: It is held already.
    """
    with (home / "scheduler.lock").open("w") as lock:
        try:
            fcntl.flock(lock, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SchedulerRuns from None
        yield
