"""A limit to how long one trial may take."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from retune.errors import TrialHung

T = TypeVar("T")


class TrialTimeout(Exception):
    """A trial took longer than `trial_timeout` and was ended."""


@dataclass(frozen=True)
class Watchdog:
    """Runs a trial in a thread of its own and ends it when its time is up.

    Attributes:
        timeout_s: How long a trial may take.
        cancel: Ends what the trial started elsewhere, such as its Spark jobs.
        grace_s: How long the trial has to come back after that.
        thread: Makes the thread; PySpark's own kind takes the caller's Spark properties along.
    """

    timeout_s: float
    cancel: Callable[[], None]
    grace_s: float = 15.0
    thread: type[threading.Thread] = threading.Thread

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, or raise what it raises.

        Raises:
            TrialTimeout: It took too long, and was ended.
            TrialHung: It took too long, and did not come back when told to: only its process can end it.
        """
        results: list[T] = []
        errors: list[BaseException] = []

        def target() -> None:
            try:
                results.append(work())
            except BaseException as error:  # handed to the caller
                errors.append(error)

        worker = self.thread(target=target, daemon=True)
        worker.start()
        worker.join(self.timeout_s)
        if worker.is_alive():
            self.cancel()
            worker.join(self.grace_s)
            if worker.is_alive():
                raise TrialHung(
                    f"trial_timeout = {self.timeout_s:g} s reached, and only the application's end can end the fit"
                )
            # Whatever it made of being cancelled, it came too late.
            raise TrialTimeout(f"trial_timeout = {self.timeout_s:g} s reached; its Spark jobs were cancelled")
        if errors:
            raise errors[0]
        return results[0]
