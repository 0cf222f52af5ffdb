"""A trial, where it is kept, and what tries it; nothing here knows Spark or MLflow."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

from retune.space import Setting


@dataclass(frozen=True)
class Trial:
    """One setting, fitted and scored.

    Attributes:
        number: Counts from 0 within the search; below 0 for a trial of an earlier search.
        setting: What was tried.
        run_id: Its run in the tracker.
        loss: Lower is better; None when the trial cannot be the best.
        metrics: All that was measured, such as `validation_r2`.
        duration_s: Fit and scoring together, further tries included.
        error: Why it failed; None when it did not.
        kept_out: Why a trial that did not fail cannot be the best: pruned, or a constraint it broke.
        started_at: Seconds since 1970.
    """

    number: int
    setting: Setting
    run_id: str
    loss: float | None
    metrics: dict[str, float] = field(default_factory=dict)
    duration_s: float = 0.0
    error: str | None = None
    kept_out: str | None = None
    started_at: float | None = None


class Tracker(Protocol):
    """Where trials are kept; the only memory of a search."""

    def start(self, number: int, setting: Setting) -> str:
        """Open the run of a trial and return its id."""
        ...

    def end(self, trial: Trial) -> None:
        """Write down how a trial ended."""
        ...

    def report(self, step: int, progress: dict[str, float]) -> None:
        """Write down how far the search has come, for whoever watches."""
        ...


@dataclass(frozen=True)
class Attempt:
    """What an objective may know beside the setting.

    Attributes:
        rung: 0 at first; higher after each time the cluster let the trial down, for ever safer ways to fit.
        earlier: The trials that have ended, in order.
        run_id: The trial's run in the tracker, which is made while the trial is under way.
        number: The trial's.
    """

    rung: int = 0
    earlier: Sequence[Trial] = ()
    run_id: Future[str] = field(default_factory=Future)
    number: int = 0


class Objective(Protocol):
    """Fits and scores one setting."""

    def __call__(self, setting: Setting, attempt: Attempt) -> dict[str, float]:
        """Return what was measured, among it `validation_<search metric>`.

        Raises:
            Pruned: Going on is not worth it.
        """
        ...


class Pruned(Exception):
    """A trial was stopped half-way, since it will not be the best.

    Args:
        reason: For people.
        metrics: What was measured so far.
    """

    def __init__(self, reason: str, metrics: dict[str, float]) -> None:
        super().__init__(reason)
        self.metrics = metrics


class TrialFailed(Exception):
    """A trial failed elsewhere; the message has the type of the error and what it said."""


def best_of(trials: Sequence[Trial]) -> Trial | None:
    """Return the trial of least loss, the earliest of equals; None where there is none with a loss."""
    candidates = [trial for trial in trials if trial.loss is not None]
    return min(candidates, key=lambda trial: (trial.loss, trial.number)) if candidates else None
