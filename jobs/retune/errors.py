"""What can go wrong, and the exit code that tells a job's caller which it was.

The codes are those of BSD's sysexits.h, so that they mean the same outside this project.
"""

from __future__ import annotations

from typing import Any


class RetuneError(Exception):
    """A failure with a message for the user; the job exits with `exit_code`."""

    exit_code = 70  # EX_SOFTWARE


class BadInput(RetuneError):
    """What the user gave is wrong: trying again changes nothing."""

    exit_code = 65  # EX_DATAERR


class TrackingUnreachable(RetuneError):
    """MLflow did not answer: trying again later may help."""

    exit_code = 75  # EX_TEMPFAIL


class SparkLost(RetuneError):
    """The Spark application went away under the job: trying again may help."""

    exit_code = 75  # EX_TEMPFAIL


class Superseded(RetuneError):
    """A newer attempt of this stage has started: this one must not write any more."""

    exit_code = 69  # EX_UNAVAILABLE


class TrialHung(RetuneError):
    """A trial ran past its time, and only the application's end can end it: submit again, and the search goes on."""

    exit_code = 71  # EX_OSERR
    exit_codes = (exit_code, 128 + 14)  # the second is SIGALRM's, where all of Python hung: see `retune.last_resort`


class AllTrialsFailed(RetuneError):
    """The search spent its budget and not one trial succeeded."""

    exit_code = BadInput.exit_code  # by the same seed, another try would propose the same settings


class TooManyFailedTrials(RetuneError):
    """More trials failed than `max_failed_trials` allows."""

    exit_code = BadInput.exit_code  # as above


def root_cause(error: BaseException) -> str:
    """Return what an error says; of one that Py4J hands on, what the first of its chain of Java exceptions says.

    Py4J's own message opens with "An error occurred while calling o42.fit." and goes on with stack traces.
    """
    cause: Any = getattr(error, "java_exception", None)
    if cause is None:
        return str(error).strip()
    while cause.getCause() is not None:
        cause = cause.getCause()
    return str(cause.getMessage() or cause.toString()).strip()


def one_line(error: BaseException) -> str:
    """Return what an error says in a line for a log: a `RetuneError` is its message, any other has its type's name."""
    text = root_cause(error)
    return text if isinstance(error, RetuneError) else f"{type(error).__name__}: {text.splitlines()[0] if text else ''}"
