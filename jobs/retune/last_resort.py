"""A process beside the driver that ends it when a trial hangs so that nothing in the driver can.

Native code may hold Python's lock while it blocks; then no thread runs, a watchdog's neither.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from queue import Empty, SimpleQueue
from typing import Any

log = logging.getLogger(__name__)
_MARKING_S = 8.0  # with the import of MLflow; the driver may hold SQLite's lock, which its end sets free


class LastResort:
    """Started with the first trial; ends with this process, whichever way that ends."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._lock = threading.Lock()

    @contextmanager
    def watch(self, run_id: str, limit_s: float) -> Iterator[None]:
        """End this process, by SIGALRM, if the block takes longer than that, and tell MLflow of the trial `run_id`.

        A trial that ran alone is marked FAILED; several are marked as suspects, of which each is to be tried alone.
        """
        self._say(run_id, limit_s)
        try:
            yield
        finally:
            self._say(run_id, None)

    def _say(self, run_id: str, limit_s: float | None) -> None:
        with self._lock:
            if self._process is None:
                # Tells where each thread is, for which it needs no lock; then the signal ends the process as ever.
                faulthandler.register(signal.SIGALRM, file=sys.__stderr__ or 2, all_threads=True, chain=True)
                command = [sys.executable, "-m", __name__]
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, text=True)
            assert self._process.stdin is not None
            try:
                self._process.stdin.write(json.dumps([run_id, limit_s]) + "\n")
                self._process.stdin.flush()
            except OSError:
                log.warning("the process that ends a driver whose Python is blocked is gone")


def main() -> None:
    """Follow what the driver says, one JSON list a line: a trial's run and its limit in seconds, or null at its end."""
    driver, said = os.getppid(), SimpleQueue[str]()
    threading.Thread(target=_listen, args=(said,), daemon=True).start()
    limits: dict[str, tuple[float, float]] = {}  # of each run: its limit, and when that is reached
    while True:
        ends = min((end for _, end in limits.values()), default=None)
        try:
            line = said.get(timeout=None if ends is None else max(0.0, ends - time.monotonic()))
        except Empty:
            marking = threading.Thread(target=_mark, args=({run: limit_s for run, (limit_s, _) in limits.items()},))
            marking.start()
            marking.join(_MARKING_S)
            if os.getppid() == driver:  # else it ended meanwhile, and the number may be another's
                os.kill(driver, signal.SIGALRM)
            return
        if not line:
            return
        run_id, limit = json.loads(line)
        limits.pop(run_id, None)
        if limit is not None:
            limits[run_id] = (limit, time.monotonic() + limit)


def _listen(said: SimpleQueue[str]) -> None:
    for line in sys.stdin:
        said.put(line)
    said.put("")  # the driver has ended


def _mark(limits: dict[str, float]) -> None:
    """Fail the one trial that runs; of several, any may be the one that blocks Python, and each is a suspect."""
    from retune import run_tree  # only now: they bring MLflow, which takes seconds
    from retune.tracking import connect
    from retune.trial_runs import DURATION, SUSPECT

    try:
        client: Any = connect()
        if len(limits) > 1:
            for run_id in limits:
                client.set_tag(run_id, SUSPECT, "true")
            return
        ((run_id, limit_s),) = limits.items()
        error = f"no end within {limit_s:g} s, and Python itself was blocked, by native code that holds its lock"
        client.log_metric(run_id, DURATION, limit_s)
        client.set_tag(run_id, run_tree.ERROR, error)
        client.set_terminated(run_id, "FAILED")
    except Exception as failure:  # the driver must be ended all the same
        log.warning("what hung could not be marked in MLflow: %s", failure)


if __name__ == "__main__":
    main()
