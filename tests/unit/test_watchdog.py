"""The watchdog: what it lets through, what it ends, and what it cannot end."""

import threading
import time

import pytest

from retune.errors import TrialHung
from retune.search.watchdog import TrialTimeout, Watchdog


def test_what_is_done_in_time_is_returned():
    assert Watchdog(5, cancel=lambda: None).run(lambda: 7) == 7


def test_what_fails_in_time_is_raised():
    with pytest.raises(ZeroDivisionError):
        Watchdog(5, cancel=lambda: None).run(lambda: 1 / 0)


@pytest.mark.parametrize("fails", [True, False])
def test_what_takes_too_long_is_cancelled_whatever_it_makes_of_that(fails):
    cancelled = threading.Event()

    def work() -> int:
        cancelled.wait(30)
        if fails:
            raise RuntimeError("Job 7 cancelled")
        return 7

    started = time.monotonic()
    with pytest.raises(TrialTimeout, match=r"^trial_timeout = 0\.05 s reached"):
        Watchdog(0.05, cancel=cancelled.set).run(work)
    assert time.monotonic() - started < 5


def test_what_cannot_be_ended_is_told_apart():
    release = threading.Event()
    with pytest.raises(TrialHung, match="only the application's end"):
        Watchdog(0.05, cancel=lambda: None, grace_s=0.05).run(lambda: release.wait(30))
    release.set()
