"""Ending a job with all the processes below it."""

from __future__ import annotations

import time
from contextlib import suppress

import psutil

# Airflow kills a task 5 s after it told it to end; by then all must be done.
_SECONDS_TO_END = 2.5
_SECONDS_TO_DIE = 1.0


def process_tree(pid: int) -> list[psutil.Process]:
    """Return a process after all below it: the Python driver shall not outlive its JVM and blame a trial for it."""
    with suppress(psutil.NoSuchProcess):
        root = psutil.Process(pid)
        return [*root.children(recursive=True), root]
    return []


def end_processes(processes: list[psutil.Process]) -> None:
    """Tell processes to end, so that Spark can end its application on a cluster, and kill those that do not."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.terminate()
    for process in _wait(processes, _SECONDS_TO_END):
        with suppress(psutil.NoSuchProcess):
            process.kill()
    _wait(processes, _SECONDS_TO_DIE)


def _wait(processes: list[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait until processes are gone; return those that are not.

    `psutil.wait_procs` would take spark-submit's exit code away from the hook, which then reads 0.
    """
    deadline = time.monotonic() + seconds
    while (left := [process for process in processes if _is_alive(process)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def _is_alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
